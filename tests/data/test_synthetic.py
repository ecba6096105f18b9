"""The made-up log: its shape is that of Steam, popularity is skewed, and what follows depends on what came before."""

import numpy as np

from srun.data.synthetic import ITEMS, PER_USER, USERS, steam_like


def test_shape_and_repeatability():
    one, other, again = steam_like(0.01, 0), steam_like(0.01, 1), steam_like(0.01, 0)
    assert one.info["name"] == "synthetic-steam"
    assert one.info["num_users"] == round(0.01 * USERS)
    assert one.info["num_items"] <= ITEMS
    lengths = one.interactions.groupby("user_id", observed=True).size()
    assert lengths.min() == 5
    assert abs(lengths.mean() - PER_USER) < 0.2
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_items_are_skewed_and_follow_each_other():
    log = steam_like(0.01, 0)
    counts = log.interactions.groupby("item_id", observed=True).size().sort_values(ascending=False)
    assert counts.head(len(counts) // 10).sum() > 0.5 * counts.sum()
    category = dict(zip(log.items["item_id"].astype(str), log.items["categories"].astype(str), strict=True))
    kind = log.interactions["item_id"].astype(str).map(category).to_numpy()
    same_user = log.interactions["user_id"].to_numpy()[1:] == log.interactions["user_id"].to_numpy()[:-1]
    stays = np.mean((kind[1:] == kind[:-1])[same_user])
    assert 0.55 < stays < 0.75, "0.6 and those that come back by chance"
