"""The rows of run.py: what each measures, on which data, and which figure of which peer it is compared with."""

from dataclasses import dataclass

BEAUTY = "amazon-beauty-5core"
QUALITY = ("train.batch_size=128", "train.learning_rate=0.002", "model.sasrec.dropout=0.3")
"""Our recipe of the row of NDCG@10, chosen on validation (recipe.py)."""


@dataclass(frozen=True)
class Work:
    """A row of run.py: what is measured, on which data, and which figure of which peer it is compared with."""

    title: str
    kind: str
    """train, rank or quality."""
    data: str
    length: int
    model: str
    loss: str
    unit: str
    peer: tuple[str, str]
    """Driver and model; the kit's run.sh knows it by both."""
    target: float
    """Ratio to reach."""


RECTOOLS, RECBOLE = "peer_rectools.py", "peer_recbole.py"
WORKS = {
    "bce-50": Work("SASRec BCE", "train", BEAUTY, 50, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 15),
    "bce-10": Work("SASRec BCE", "train", BEAUTY, 10, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 4.5),
    "ml1m-50": Work("SASRec BCE", "train", "ml-1m", 50, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 2.2),
    "bce-200": Work("SASRec BCE", "train", BEAUTY, 200, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 15),
    "ml1m-200": Work("SASRec BCE", "train", "ml-1m", 200, "sasrec", "bce", "sequences/s", (RECTOOLS, "sasrec"), 2.2),
    "ce-50": Work("SASRec full CE", "train", BEAUTY, 50, "sasrec", "ce", "targets/s", (RECBOLE, "sasrec-ce"), 10),
    "bert-50": Work("BERT4Rec full CE", "train", BEAUTY, 50, "bert4rec", "ce", "targets/s", (RECBOLE, "bert4rec"), 20),
    "gru-50": Work("GRU4Rec", "train", BEAUTY, 50, "gru4rec", "bce", "targets/s", (RECBOLE, "gru4rec"), 8),
    "rank-10": Work("full ranking", "rank", BEAUTY, 10, "gru4rec", "bce", "users/s", (RECBOLE, "gru4rec"), 3),
    "ndcg-10": Work("NDCG@10 of the peer", "quality", BEAUTY, 10, "sasrec", "ce", "s", (RECBOLE, "sasrec-ce"), 4),
}
