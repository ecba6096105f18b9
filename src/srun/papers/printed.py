"""What the two documents print, to stand beside our own figures; `printed/README.md` names the sources."""

import csv
from pathlib import Path

FOLDER = Path(__file__).parent / "printed"

THESIS_ODDITIES = (
    "Original's and Retrain's hits are multiples of 1/506 (Beauty), 1/378 (Games) and 1/199 (Steam), SRUGA's and "
    "SISA's are not: the rows come from different forget sets, of about 1 % of the users rather than 10 %.",
    "Hit@10 of SASRec on Steam is .7738 (Original) and .7623 (Retrain) in the text, .8166 and .8291 in the table; "
    "Recall@10 of SASRec on Games is .667 in the text and .7149 in the table.",
    "On D_raw, NDCG@10 of BERT4Rec's Retrain is .0364 (Beauty) and of its SISA .028 (Steam), a tenth of the figures "
    "beside them.",
    "The level fits a ranking among sampled candidates: rows of ours are given among 100 sampled items and in full.",
    "BERT4Rec has 4 heads in the table and 2 in the text.",
)
"""What is odd in the figures of the SRUGA thesis, to be said wherever they are quoted."""

ATTRIBUTION_ODDITIES = (
    "The removal rate is not defined. Retrain's 100 % holds by definition when items that were never trained on cannot "
    "be recommended, whatever is measured.",
    "HR@10 .6018 and NDCG@10 .4903 of the original model are of the size that ranking among sampled candidates gives.",
    "Neither the number of blocks, the width, the length of a sequence nor the epochs are given; 987 minutes for an "
    "edit of 4 to 8 neurons must nearly all be attribution, of one sequence and neuron at a time.",
    "Figures 3 and 4 do not say of which category's removal they are, nor whether targets in it count.",
    "The table counts 163.5 interactions a user under the heading #Interaction.",
)
"""What is odd in the attribution paper's figures, to be said wherever they are quoted."""


def printed_rows(table: str, **where: str) -> list[dict[str, str]]:
    """The rows of a table, such as ``thesis-table-4``, whose columns have the given values; values are as printed."""
    with (FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[name] == value for name, value in where.items())]
