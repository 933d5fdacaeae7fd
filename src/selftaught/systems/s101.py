"""S101, SIE: half of the features follow a known transformation, the other half ignore it, and the predictor must use it."""

from .arms import SMALL
from .proof import Arm, Claim, Proof


def prepare() -> None:
    """SIE told the transformations of another item (nothing to follow), and VICReg on SIE's views."""
    from ..contracts import Pair, register
    from ..methods import SIE, VICReg

    @register("s101_wrong")
    class Wrong(SIE):
        """SIE whose predictor gets the transformations of the next item of the batch."""

        def known(self, views):
            return super().known(views).roll(1, 0)

    @register("s101_vicreg")
    class SameViews(VICReg):
        """VICReg that sees two views of one distribution, as SIE does."""

        needs = Pair()


def angles_told(trained) -> dict[str, float]:
    """rotation: R² of a linear map from the features of two views of a test item to the angle between them. The features are the
    half that moves (the last ones) where the method splits them, else all of them."""
    import numpy as np
    import torch

    from ..contracts import Pair
    from ..evaluation import linear_probe

    encoder = trained.run.encoder
    cut = getattr(trained.method().student.head, "cut", 0)
    views = encoder.modality.views(Pair(known=True), encoder.preprocessing, **trained.plan.nested["views"])

    def pairs(source):
        features, angles = [], []
        with torch.no_grad():
            for batch, _ in encoder.batches(source):
                a, b = views(batch, batch.draws(101, "angles"))
                features.append(torch.cat([encoder.backbone(v.x).pooled[:, cut:] for v in (a, b)], 1).numpy())
                angles.append((b.applied["angle"] - a.applied["angle"]).numpy() / 60)
        return np.concatenate(features), np.concatenate(angles)

    return {"rotation": linear_probe(*pairs(trained.train), *pairs(trained.test)).value}


def retrieved(trained) -> dict[str, float]:
    """mrr: mean reciprocal rank of the view that was meant among 15 views of a test item, by its distance to what the predictor
    says from a sixteenth view and the right transformation; mrr_identity: the same with that view itself as prediction."""
    import torch

    from ..contracts import Pair

    method, encoder, found = trained.method(), trained.run.encoder, {"mrr": [], "mrr_identity": []}
    views = encoder.modality.views(Pair(known=True, count=16), encoder.preprocessing, **trained.plan.nested["views"])
    with torch.no_grad():
        for batch, _ in encoder.batches(trained.test):
            first, *others = seen = views(batch, batch.draws(101, "retrieval"))
            z = [method.student(v)[:, method.cut:] for v in seen]
            there = torch.stack(z[1:], 1)  # [B, 15, E]
            for k, other in enumerate(others):
                t, u = first.applied["transform"], other.applied["transform"]
                predicted = method.predictor(z[0], torch.cat([torch.ones_like(t[:, :1]), t, u], 1))
                for name, guess in (("mrr", predicted), ("mrr_identity", z[0])):
                    distance = (there - guess[:, None]).square().sum(2)
                    found[name].append(1 / (distance <= distance[:, k, None]).sum(1).float())
    return {name: float(torch.cat(ranks).mean()) for name, ranks in found.items()}


def over_identity(arms) -> float:
    """How much higher the predictor's rank is than that of no prediction at all."""
    return arms["sie"]["mrr"] - arms["sie"]["mrr_identity"]


DATA = "moved-digits"
VIEWS = {"views.rotate": 60.0, "views.scale": (0.5, 1.0), **SMALL}
EPOCHS = {"epochs": 6, "batch_size": 256, "method.width": 512, **VIEWS}

PROOF = Proof(
    id="S101",
    statement="A split representation keeps how an item was turned in one half, and its classes as well as VICReg does.",
    works_when="R² of the rotation from the equivariant half lies far above VICReg's features and the untrained network's, while "
               "the linear probe of classes is within a small margin of VICReg's; retrieval with the right transformation beats "
               "the identity as predictor.",
    arms=(
        Arm("sie", "sie", DATA, EPOCHS, "subject", 120, (angles_told, retrieved)),
        Arm("vicreg", "s101_vicreg", DATA, EPOCHS, "baseline", 120, (angles_told,)),
        Arm("untrained", None, DATA, VIEWS, "baseline", 60, (angles_told,)),
        Arm("wrong transformation", "s101_wrong", DATA, EPOCHS, "ablation", 120, (angles_told, retrieved)),
    ),
    claims=(
        Claim("R² of the rotation from the equivariant half lies more than .1 above that of all of VICReg's features.",
              "rotation", "sie", "vicreg", margin=0.1),
        Claim("R² of the rotation from the equivariant half lies more than .1 above that of all of the untrained network's features.",
              "rotation", "sie", "untrained", margin=0.1),
        Claim("The linear probe of the classes is at most 2 points below VICReg's.", "linear", "sie", "vicreg", "not worse", 0.02),
        Claim("Retrieval by the predictor with the right transformation beats retrieval by the view itself.", "mrr",
              kind="across arms", value=over_identity),
        Claim("Told the transformation of another item in training, the predictor retrieves worse.",
              "mrr", "wrong transformation", "sie", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="6 passes over 6,000 items of 20 × 20, batch 256, ConvNet 32-64-128-128, heads 512 wide, at most 120 s an arm on two cores; "
           "the same views for all, turned by up to 60°; every method at the rate of its recipe for short runs",
    data="real",
    substitutions="Moved digits, turned and cropped by known amounts in the plane, for renderings of 3-D models; what is known is "
                  "the place and size of the crop, the turn and the brightness; a ConvNet for ResNet-18. The rotation is read by a "
                  "linear map in place of an MLP.",
    omissions="R² of a hue: handwriting has no colour, so only the rotation is claimed, as in the row's clause. H@k and prediction "
              "errors are further measures of the same retrieval.",
    prepare=prepare,
)
