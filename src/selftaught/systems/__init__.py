"""The systems of the literature: a catalogue of 379, a small file for each one built, and proofs that anyone can run."""

from .catalogue import System, find_proof, find_system, prove, summary, systems, to_markdown
from .proof import Arm, Claim, Proof, judge, run_proof

__all__ = ["Arm", "Claim", "Proof", "System", "find_proof", "find_system", "judge", "prove", "run_proof", "summary", "systems",
           "to_markdown"]
