"""The report of a run."""
def write_report(*a, **k):
    raise NotImplementedError
