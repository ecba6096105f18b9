"""Forget requests: what is forgotten, what stays, what is asked afterwards, against plain loops over events."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srun.data.dataset import Role, original_validation, training_windows
from srun.errors import DataError
from srun.flow.partition import read_rows
from srun.requests.partition import MIN_USERS_TO_TUNE, Partition, partition

CATEGORIES = {f"i{item}": ["red", "green", "red|green", ""][item % 4] for item in range(12)}
KINDS = ("interactions", "category", "users", "category all", "category of some")


@st.composite
def logs(draw):
    """Sequences of item numbers for each user; items repeat, within a user too."""
    users = st.lists(st.integers(0, 11), min_size=1, max_size=11)
    return [*draw(st.lists(users, min_size=4, max_size=12)), [0, 1, 2, 3, 0, 5, 6, 2]]


def carry_out(small, sequences, kind, seed=0, **settings):
    """(data, partition) of a request of a kind; the last user never is a calibration user."""
    data = small.make_data(small.log_of(sequences), CATEGORIES, seed=seed, **settings)
    request = {
        "interactions": small.interactions_request(seed=seed, catalogue="retained"),
        "users": small.users_request(seed=seed, catalogue="retained"),
        "category": small.category_request(),
        "category all": small.category_request(context="all"),
        "category of some": small.category_request(users=tuple(data.users["user_id"][::2])),
    }[kind]
    try:
        return data, small.carry_out(data, request)
    except DataError:  # a draw or category that meets no training event
        return data, None


def naive(data, request, kind):
    """split -> [(user, event, target, history)], from the specification's words, one event at a time."""
    red = data.categories.get("red", np.zeros(data.num_items + 1, dtype=bool))
    named = np.ones(data.num_users, dtype=bool)
    if kind == "category of some":
        named[1::2] = False
    is_category, forgotten = kind.startswith("category"), set(np.flatnonzero(request.forget).tolist())
    gone_users = {int(data.user[e]) for e in forgotten} if kind == "users" else set()
    affected = {int(data.user[e]) for e in forgotten}

    def in_request(event):  # of held-out events
        user = int(data.user[event])
        return user in gone_users if kind == "users" else is_category and named[user] and red[data.item[event]]

    asked = {s: [] for s in ("validation", "test", "test_affected", "test_unaffected", "test_raw", "forget", "never")}
    asked |= {"in": [], "out": [], "in_tune": [], "out_tune": [], "aside": []}
    raw_context = kind in ("users", "category all")
    for user in range(data.num_users):
        raw, retained, never = [], [], []
        own = range(data.offsets[user], data.offsets[user + 1])
        for event in own:
            role, item = Role(data.role[event]), int(data.item[event])

            def ask(split, history, user=user, event=event, item=item):
                if history:
                    asked[split].append((user, event, item, tuple(history)))

            if role in (Role.VALIDATION, Role.TEST):
                gone, report = in_request(event), request.group[user] == 2
                if role == Role.VALIDATION:
                    if not gone:
                        ask("validation", retained)
                    if is_category and not report and (gone or not red[item]):
                        ask("in_tune" if gone else "out_tune", retained)
                else:
                    ask("test_raw", raw)
                    if not gone:
                        ask("test", retained)
                        ask("test_affected" if user in affected else "test_unaffected", retained)
                    if is_category and report and (gone or not red[item]):
                        ask("in" if gone else "out", retained)
                raw.append(item)
                if not gone:
                    retained.append(item)
            elif role in (Role.TRAIN, Role.CONTEXT):
                if event in forgotten:
                    ask("forget", raw if raw_context else retained)
                elif role == Role.TRAIN or not in_request(event):
                    retained.append(item)
                raw.append(item)
            elif role == Role.SET_ASIDE:
                ask("aside", retained)
            else:  # calibration
                chosen = request.never_seen[event]
                if chosen:
                    ask("never", never)
                if not chosen or raw_context:
                    never.append(item)
    return asked


def listed(queries):
    histories = [tuple(queries.items[a:b].tolist()) for a, b in zip(queries.start, queries.stop, strict=True)]
    return list(zip(queries.user.tolist(), queries.event.tolist(), queries.target.tolist(), histories, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@given(sequences=logs(), seed=st.integers(0, 3), holdout=st.sampled_from(["user", "users_80_20"]))
def test_every_split_agrees_with_a_plain_loop(small, kind, sequences, seed, holdout):
    apart = {"calibration_users": 0.2, "calibration_events": 0.3}
    data, request = carry_out(small, sequences, kind, seed, holdout=holdout, **apart)
    if request is None:
        return
    expected = naive(data, request, kind)
    if kind == "interactions":
        assert listed(request.queries("set_aside")) == expected["aside"]
    for split in ("validation", "test", "test_affected", "test_unaffected", "test_raw"):
        assert listed(request.queries(split)) == expected[split], split
    assert listed(request.forget_queries()) == expected["forget"]
    for name in ("forget", "never_seen"):
        halves = listed(request.queries(f"{name}_tune")) + listed(request.queries(f"{name}_report"))
        assert sorted(halves) == expected["forget" if name == "forget" else "never"]
        for code, part in ((1, "tune"), (2, "report")):
            assert all(request.group[user] == code for user, *_ in listed(request.queries(f"{name}_{part}")))
    if kind.startswith("category"):
        names = {"in": "in_category", "out": "out_of_category", "in_tune": "in_category_tune"}
        for short, split in {**names, "out_tune": "out_of_category_tune"}.items():
            assert listed(request.queries(split)) == expected[short], split


@pytest.mark.parametrize("kind", KINDS)
@given(sequences=logs(), seed=st.integers(0, 3))
def test_forget_and_retain_part_the_training_events(small, kind, sequences, seed):
    data, request = carry_out(small, sequences, kind, seed, calibration_users=0.2, calibration_events=0.3)
    if request is None:
        return
    assert not (request.forget & request.retain).any()
    assert ((request.forget | request.retain) == (data.role == Role.TRAIN)).all()
    assert request.info["num_forget"] == request.forget.sum() > 0
    assert request.info["num_retain"] == request.retain.sum()
    assert request.info["num_users"] == request.affected.sum() == len(set(data.user[request.forget]))
    without = request.forget.sum() - len(request.forget_queries())
    assert request.info["num_forget_without_context"] == without


@pytest.mark.parametrize("kind", KINDS)
@given(sequences=logs(), seed=st.integers(0, 3))
def test_the_retain_set_keeps_order_and_holds_no_forgotten_event(small, kind, sequences, seed):
    # every event has an item of its own here, so that items tell events apart
    number = 0
    categories, events = {}, []
    for user, items in enumerate(sequences):
        for time, item in enumerate(items):
            events.append((f"u{user}", f"i{number:04d}", time))
            categories[f"i{number:04d}"] = CATEGORIES[f"i{item}"]
            number += 1
    data = small.make_data(events, categories, seed=seed, calibration_users=0.2, max_length=3)
    request = {
        "interactions": small.interactions_request(seed=seed),
        "users": small.users_request(seed=seed),
        "category": small.category_request(),
        "category all": small.category_request(context="all"),
        "category of some": small.category_request(users=tuple(data.users["user_id"][::2])),
    }[kind]
    try:
        made = small.carry_out(data, request)
    except DataError:
        return
    forgotten = set(data.item[made.forget].tolist())
    windows = training_windows(data, made.retain)
    assert not forgotten & set(windows.items.ravel().tolist())
    transitions = Counter(p for row in windows.items.tolist() for p in pairwise([i for i in row if i]))
    expected = Counter()
    for user in range(data.num_users):
        own = data.item[(data.user == user) & made.retain].tolist()
        expected.update(pairwise(own))
    assert transitions == expected
    for split, queries in made.splits.items():
        if split == "test_raw" or (split.startswith("forget") and kind in ("users", "category all")):
            continue
        contexts = {i for _, _, _, history in listed(queries) for i in history}
        assert not forgotten & contexts, split
        own = Counter(u for u, e, t, h in listed(queries) if any(data.user[data.item == i][0] != u for i in h))
        assert not own, "a history holds another user's item"


THESIS = [18426, 29351, 8742, 54914, 54912, 32829, 55044, 55045, 55040, 55350, 12536, 55453]


@pytest.mark.parametrize("timestamps", [True, False])
def test_the_worked_case_of_the_thesis(small, tmp_path, timestamps):
    """[T] Table 6: user 293 forgets 8742, 54912 and 55044; 12536 validates, 55453 is the test target."""
    events = [("293", str(item), 100 + time) for time, item in enumerate(THESIS)]
    events += [("7", str(item), time) for time, item in enumerate(reversed(THESIS))]
    data = small.make_data(events, max_length=10)
    rows = [("293", item, 100 + THESIS.index(item)) for item in (54912, 8742, 55044)]
    header = "user_id,item_id,timestamp" if timestamps else "user_id,item_id"
    file = small.write_request(tmp_path / "r.csv", [row[: 3 if timestamps else 2] for row in rows], header)
    request = small.carry_out(data, small.interactions_request(file=file))

    names = np.array(["0", *data.items["item_id"]]).astype(int)
    user = data.users["user_id"].tolist().index("293")
    queries = request.forget_queries()
    assert set(queries.user.tolist()) == {user}
    assert dict(zip(names[queries.target].tolist(), names[queries.histories(10)].tolist(), strict=True)) == {
        8742: [0] * 8 + [18426, 29351],
        54912: [0] * 7 + [18426, 29351, 54914],
        55044: [0] * 6 + [18426, 29351, 54914, 32829],
    }
    windows = training_windows(data, request.retain)
    mine = windows.items[windows.user == user]
    assert names[mine].tolist() == [[0] * 4 + [18426, 29351, 54914, 32829, 55045, 55040, 55350]]
    test = request.queries("test").select(request.queries("test").user == user)
    assert names[test.histories(10)].tolist() == [
        [0, 0, 18426, 29351, 54914, 32829, 55045, 55040, 55350, 12536],
    ]
    assert names[test.target].tolist() == [55453]
    validation = request.queries("validation").select(request.queries("validation").user == user)
    assert names[validation.target].tolist() == [12536]
    assert names[validation.histories(10)].tolist() == [[0] * 3 + [18426, 29351, 54914, 32829, 55045, 55040, 55350]]
    raw = request.queries("test_raw").select(request.queries("test_raw").user == user)
    assert names[raw.histories(11)].tolist() == [THESIS[:11]]
    other = windows.items[windows.user != user]
    assert sorted(names[other].ravel().tolist()) == [0, *sorted(THESIS[2:])]


def position_in_training(data, events):
    """Place of each event among its user's training events, and how many there are."""
    train = np.flatnonzero(data.role == Role.TRAIN)
    place, length = {}, Counter(data.user[train].tolist())
    seen = Counter()
    for event in train.tolist():
        place[event] = seen[int(data.user[event])]
        seen[int(data.user[event])] += 1
    return [(place[e], length[int(data.user[e])]) for e in np.flatnonzero(events).tolist()]


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.3, 1.0]))
def test_the_draw_of_the_thesis(small, seed, share):
    data = small.make_data(small.random_events(50, 20, seed=seed, low=2, high=12), calibration_users=0.1, seed=seed)
    request = small.carry_out(data, small.interactions_request(seed=seed, share_of_users=share))
    lengths = np.bincount(data.user[data.role == Role.TRAIN], minlength=data.num_users)
    assert request.affected.sum() == round(share * (lengths >= 3).sum())
    assert (lengths[request.affected] >= 3).all()
    assert all(place >= 2 for place, _ in position_in_training(data, request.forget))
    drawn = np.bincount(data.user[request.forget], minlength=data.num_users)
    assert (drawn[request.affected] >= 1).all()
    assert (drawn <= lengths // 2).all()
    assert (request.removed == request.forget).all()
    assert not request.removed[data.role == Role.CALIBRATION].any()
    never = np.bincount(data.user[request.never_seen], minlength=data.num_users)
    assert (data.role[request.never_seen] == Role.CALIBRATION).all()
    for user in np.unique(data.user[data.role == Role.CALIBRATION]):
        left = int(data.offsets[user + 1] - data.offsets[user]) - 2
        assert (1 <= never[user] <= left // 2) if left >= 3 else never[user] == 0
        places = np.flatnonzero(request.never_seen[data.offsets[user] : data.offsets[user + 1]])
        assert all(2 <= place < left for place in places)


def test_the_number_drawn_and_the_places_are_uniform(small):
    # all have 10 training items: k is uniform on 1..5, and every place from the third on is as likely
    data = small.make_data(small.log_of([[i % 12 for i in range(u, u + 12)] for u in range(3000)]))
    request = small.carry_out(data, small.interactions_request(share_of_users=1.0))
    number = np.bincount(data.user[request.forget], minlength=3000)
    observed = np.bincount(number, minlength=6)[1:]
    assert ((observed - 600) ** 2 / 600).sum() < 18.5  # chi-square, 4 degrees of freedom, p = 0.001
    places = np.bincount([place for place, _ in position_in_training(data, request.forget)], minlength=10)
    assert places[:2].tolist() == [0, 0]
    mean = places[2:].mean()
    assert ((places[2:] - mean) ** 2 / mean).sum() < 24.3  # 7 degrees of freedom


def test_draws_follow_their_seed(small):
    data = small.make_data(small.random_events(60, 20))
    drawn = [small.carry_out(data, small.interactions_request(seed=seed)).forget.tobytes() for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("kind", ["interactions", "users"])
@given(num_users=st.integers(8, 60), seed=st.integers(0, 9))
def test_halves_are_disjoint_by_user_and_even(small, kind, num_users, seed):
    data = small.make_data(small.random_events(num_users, 12), calibration_users=0.3, seed=seed)
    make = small.interactions_request if kind == "interactions" else small.users_request
    request = small.carry_out(data, make(seed=seed, share_of_users=0.9))
    tune, report = (set(np.flatnonzero((request.group == code) & request.affected)) for code in (1, 2))
    assert tune | report == set(np.flatnonzero(request.affected))
    assert not tune & report
    if len(tune | report) < 20:
        assert not tune
        assert len(request.queries("forget_tune")) == 0
        assert "no_tune_half" in request.info
    else:
        assert abs(len(tune) - len(report)) <= 1
        assert "no_tune_half" not in request.info
    apart = set(data.user[data.role == Role.CALIBRATION])
    never = [set(request.queries(f"never_seen_{part}").user) for part in ("tune", "report")]
    assert never[0] | never[1] <= apart
    assert not never[0] & never[1]
    halves = [sum(request.group[u] == code for u in apart) for code in (1, 2)]
    assert abs(halves[0] - halves[1]) <= 1


def test_the_bound_of_the_tune_half_is_20():
    assert MIN_USERS_TO_TUNE == 20


def test_category_requests_split_users_80_20_by_the_data_seed(small):
    events = small.random_events(100, 12)

    def report(data_seed, request_seed):
        data = small.make_data(events, CATEGORIES, seed=data_seed)
        request = small.carry_out(data, small.category_request(seed=request_seed))
        assert set(np.unique(request.group)) == {1, 2}
        return tuple(np.flatnonzero(request.group == 2).tolist())

    assert len(report(0, 0)) == 20
    assert report(0, 0) == report(0, 5)
    assert report(0, 0) != report(1, 0)


def test_the_report_users_of_holdout_80_20_are_those_of_category_requests(small):
    data = small.make_data(small.random_events(50, 12), CATEGORIES, holdout="users_80_20")
    request = small.carry_out(data, small.category_request())
    assert set(data.user[data.role == Role.TEST]) == set(np.flatnonzero(request.group == 2))


def test_a_category_of_a_few_users_has_no_tune_half(small):
    data = small.make_data(small.random_events(60, 12, low=8), CATEGORIES)
    named = tuple(data.users["user_id"][:8])
    request = small.carry_out(data, small.category_request(users=named))
    assert len(request.queries("forget_tune")) == 0
    assert "no_tune_half" in request.info


def test_never_seen_events_of_a_category_are_those_of_all_calibration_users(small):
    data = small.make_data(small.random_events(60, 12), CATEGORIES, calibration_users=0.3)
    trained = data.users["user_id"][np.unique(data.user[data.role == Role.TRAIN])]
    everybody = small.carry_out(data, small.category_request())
    some = small.carry_out(data, small.category_request(users=tuple(trained[:30])))
    red = data.categories["red"][data.item]
    last_two = np.zeros(data.num_events, dtype=bool)
    last_two[data.offsets[1:] - 1] = last_two[data.offsets[1:] - 2] = True
    expected = red & (data.role == Role.CALIBRATION) & ~last_two
    assert (everybody.never_seen == expected).all()
    assert (some.never_seen == expected).all()


def test_never_seen_events_of_users_are_all_but_the_last_two(small):
    data = small.make_data(small.random_events(40, 12), calibration_users=0.3)
    request = small.carry_out(data, small.users_request())
    for user in np.unique(data.user[data.role == Role.CALIBRATION]):
        own = request.never_seen[data.offsets[user] : data.offsets[user + 1]]
        assert own.tolist() == [True] * (len(own) - 2) + [False] * 2
    assert not request.never_seen[data.role != Role.CALIBRATION].any()


@pytest.mark.parametrize("kind", ["interactions", "users", "category"])
def test_a_request_that_names_calibration_users_is_told(small, tmp_path, kind):
    data = small.make_data(small.random_events(40, 12), CATEGORIES, calibration_users=0.3)
    apart = int(data.user[data.role == Role.CALIBRATION][0])
    other = int(data.user[data.role == Role.TRAIN][0])
    own = np.flatnonzero(data.user == apart)
    train = np.flatnonzero((data.user == other) & (data.role == Role.TRAIN))
    red = data.categories["red"][data.item]
    who = [data.users["user_id"][u] for u in (apart, other)]
    if kind == "interactions":
        rows = [
            (data.users["user_id"][data.user[e]], data.items["item_id"][data.item[e] - 1], data.time[e])
            for e in (own[0], own[1], train[2])
        ]
        request = small.interactions_request(file=small.write_request(tmp_path / "r.csv", rows))
        expected = 2
    elif kind == "users":
        rows = [(name,) for name in who]
        request = small.users_request(file=small.write_request(tmp_path / "r.csv", rows, "user_id"))
        expected = len(own)
    else:
        request = small.category_request(users=tuple(data.users["user_id"]))
        expected = int((red & (data.role == Role.CALIBRATION)).sum())
    made = small.carry_out(data, request)
    assert made.info["num_never_trained_on"] == expected > 0
    assert not made.forget[data.role == Role.CALIBRATION].any()


@given(st.integers(0, 99))
def test_calibration_users_are_never_drawn(small, seed):
    data = small.make_data(small.random_events(30, 12), calibration_users=0.5, seed=seed)
    for request in (small.users_request(seed=seed), small.interactions_request(seed=seed, share_of_users=1.0)):
        made = small.carry_out(data, request)
        assert not made.removed[data.role == Role.CALIBRATION].any()
        assert made.info["num_never_trained_on"] == 0


def test_users_leave_validation_and_test(small):
    data = small.make_data(small.random_events(40, 12), calibration_users=0.1)
    request = small.carry_out(data, small.users_request(share_of_users=0.5))
    gone = set(np.flatnonzero(request.affected))
    assert len(gone) == round(0.5 * len(np.unique(data.user[data.role == Role.TRAIN])))
    for split in ("validation", "test", "test_affected", "test_unaffected"):
        assert not gone & set(request.queries(split).user)
    assert gone <= set(request.queries("test_raw").user)
    assert not request.retain[np.isin(data.user, list(gone))].any()


@pytest.mark.parametrize("kind", ["interactions", "users"])
@pytest.mark.parametrize("catalogue", ["full", "retained"])
def test_the_catalogue(small, tmp_path, kind, catalogue):
    data = small.make_data(small.log_of([[0, 1, 2, 3, 4, 5], [0, 1, 6, 3, 4, 5], [1, 0, 3, 4]]))
    rows = [("u1", "i6")] if kind == "interactions" else [("u1",)]
    file = small.write_request(tmp_path / "r.csv", rows, "user_id,item_id" if kind == "interactions" else "user_id")
    make = small.interactions_request if kind == "interactions" else small.users_request
    request = small.carry_out(data, make(file=file, catalogue=catalogue))
    if catalogue == "full":
        assert request.catalogue is None
    else:
        names = set(data.items["item_id"][np.flatnonzero(request.catalogue) - 1])
        # i4, i5 are held out only (i4 is trained on by nobody), i6 is forgotten
        assert names == {"i0", "i1", "i2", "i3"}
        assert not request.catalogue[0]
    assert request.info["num_items_only_forgotten"] == 1


def test_repeats_at_another_time_stay(small, tmp_path):
    data = small.make_data([("a", x, t) for t, x in enumerate("pqrqsqtz")] + [("b", x, t) for t, x in enumerate("pqr")])
    with_time = small.write_request(tmp_path / "one.csv", [("a", "q", 3)])
    request = small.carry_out(data, small.interactions_request(file=with_time))
    assert data.time[request.removed].tolist() == [3]
    names = np.array(["", *data.items["item_id"]])
    windows = training_windows(data, request.retain)
    assert "".join(names[windows.items[windows.user == 0][0]]) == "pqrsq"
    without_time = small.write_request(tmp_path / "all.csv", [("a", "q")], "user_id,item_id")
    request = small.carry_out(data, small.interactions_request(file=without_time))
    assert data.time[request.forget].tolist() == [1, 3, 5]


def test_an_event_is_named_by_user_item_and_time_together(small, tmp_path):
    data = small.make_data(small.random_events(30, 12))
    wanted = np.flatnonzero(data.role == Role.TRAIN)[5:50:7]
    rows = [
        (data.users["user_id"][data.user[e]], data.items["item_id"][data.item[e] - 1], data.time[e]) for e in wanted
    ]
    request = small.carry_out(data, small.interactions_request(file=small.write_request(tmp_path / "r.csv", rows)))
    assert np.flatnonzero(request.removed).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("user_id,item_id\nu0\n", 2),
        ("user_id,item_id\nu0,i1,1\n", 2),
        ("user_id,item_id\nu0,i1\n,i1\n", 3),
        ("user_id,item_id,timestamp\nu0,i1,1\nu0,i1,soon\n", 3),
        ("who,what\nu0,i1\n", 1),
    ],
)
def test_a_line_that_cannot_be_read_is_named(small, tmp_path, text, line):
    data = small.make_data(small.log_of([[0, 1, 2, 3, 4, 5], [0, 9, 2, 1, 4, 5]]))
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(DataError, match=rf"r\.csv:{line}[:,]"):
        small.carry_out(data, small.interactions_request(file=str(tmp_path / "r.csv")))


def outcomes(request) -> dict:
    """line -> (outcome, reason) of every row."""
    return {row.line: (row.outcome, row.reason) for row in request.rows.itertuples()}


def test_every_row_has_an_outcome_and_none_stops_the_others(small, tmp_path):
    """Filtered films, unknown users and users kept out of training used to refuse the whole request."""
    events = [*small.random_events(40, 12, low=8), ("u1", "rare", 99)]
    data = small.make_data(events, calibration_users=0.2, calibration_events=0.5, filter="once", min_interactions=2)
    ids, items = data.users["user_id"].to_numpy(), data.items["item_id"].to_numpy()

    def event_of(role):
        e = int(np.flatnonzero(data.role == role)[3])
        return ids[data.user[e]], items[data.item[e] - 1], int(data.time[e])

    train = event_of(Role.TRAIN)
    rows = {
        2: (train, ("forgotten", "")),
        3: (event_of(Role.VALIDATION), ("never_trained", "held out for validation")),
        4: (event_of(Role.TEST), ("never_trained", "held out for test")),
        5: (event_of(Role.CALIBRATION), ("never_trained", "of a user kept out of training")),
        6: (event_of(Role.SET_ASIDE), ("never_trained", "set aside before training")),
        7: (("u1", "rare", 99), ("never_trained", "left out when the data were prepared")),
        8: (("nobody", items[0], 1), ("unknown_user", "")),
        9: ((train[0], "nothing", 1), ("unknown_item", "")),
        10: ((*train[:2], 12345), ("no_such_event", "the user has this item, at other times")),
        11: (("u1", "rare", 98), ("no_such_event", "the user has this item, at other times")),
        12: (train, ("forgotten", "")),
    }
    file = small.write_request(tmp_path / "r.csv", [row for row, _ in rows.values()])
    request = small.carry_out(data, small.interactions_request(file=file))
    assert outcomes(request) == {line: expected for line, (_, expected) in rows.items()}
    assert request.info["num_forget"] == 1
    assert request.info["rows"] == {
        "forgotten": 2, "never_trained": 5, "unknown_user": 1, "unknown_item": 1, "no_such_event": 2
    }  # fmt: skip
    assert request.removed.sum() == 5, "what was never trained on leaves held-out and never-seen events too"


def test_a_pair_that_the_user_never_had_is_no_such_event(small, tmp_path):
    data = small.make_data(small.log_of([[0, 1, 2, 3, 4, 5], [0, 9, 2, 1, 4, 5]]))
    file = small.write_request(tmp_path / "r.csv", [("u0", "i1"), ("u0", "i9")], "user_id,item_id")
    request = small.carry_out(data, small.interactions_request(file=file))
    assert outcomes(request) == {2: ("forgotten", ""), 3: ("no_such_event", "")}


def test_users_kept_out_of_training_can_ask_and_leave_the_comparison(small, tmp_path):
    data = small.make_data(small.random_events(60, 12, low=8), calibration_users=0.4)
    apart = np.unique(data.user[data.role == Role.CALIBRATION])
    trained = np.unique(data.user[data.role == Role.TRAIN])[:30]
    ids = data.users["user_id"].to_numpy()
    names = [(ids[user],) for user in [*trained, *apart[:3]]] + [("nobody",)]
    request = small.carry_out(data, small.users_request(file=small.write_request(tmp_path / "r.csv", names, "user_id")))
    everybody = small.carry_out(
        data, small.users_request(file=small.write_request(tmp_path / "s.csv", names[:30], "user_id"))
    )
    said = outcomes(request)
    assert [said[line] for line in range(32, 36)] == [
        *[("never_trained", "of a user kept out of training")] * 3,
        ("unknown_user", ""),
    ]
    for split in ("never_seen_tune", "never_seen_report"):
        assert not set(apart[:3]) & set(request.queries(split).user)
        kept = set(everybody.queries(split).user) - set(apart[:3])
        assert set(request.queries(split).user) == kept, "the others stay where they were"
    assert not request.group[apart[:3]].any()


def test_a_named_event_of_a_user_kept_out_of_training_is_in_no_comparison_and_no_context(small, tmp_path):
    data = small.make_data(small.random_events(60, 12, low=10), calibration_users=0.4)
    free = small.carry_out(data, small.interactions_request(share_of_users=1.0))
    event = int(np.flatnonzero(free.never_seen)[0])
    ids, items = data.users["user_id"].to_numpy(), data.items["item_id"].to_numpy()
    train = np.flatnonzero(data.role == Role.TRAIN)[2]
    rows = [(ids[data.user[e]], items[data.item[e] - 1], data.time[e]) for e in (event, train)]
    request = small.carry_out(data, small.interactions_request(file=small.write_request(tmp_path / "r.csv", rows)))
    assert request.removed[event]
    assert not request.never_seen[event]
    for split in ("never_seen_tune", "never_seen_report"):
        queries = request.queries(split)
        assert event not in queries.event


def test_users_of_a_category_request_have_outcomes_too(small):
    events = [*small.log_of([[0, 1, 2, 3, 4, 0, 5, 6], [1, 3, 5, 7, 9, 11, 1, 3]]), ("u2", "x", 1), ("u3", "i0", 1)]
    categories = {**CATEGORIES, "x": "red"}
    data = small.make_data(events, categories, filter="once", min_interactions=2)
    request = small.carry_out(data, small.category_request(users=("u0", "u1", "u2", "u3", "nobody")))
    assert outcomes(request) == {
        2: ("forgotten", ""),
        3: ("no_such_event", ""),
        4: ("never_trained", "left out when the data were prepared"),
        5: ("never_trained", "left out when the data were prepared"),
        6: ("unknown_user", ""),
    }


def test_a_file_of_users_alone_is_no_request_for_single_events(small, tmp_path):
    data = small.make_data(small.random_events(20, 12))
    file = small.write_request(tmp_path / "r.csv", [("u1",)], "user_id")
    with pytest.raises(DataError, match=r"r\.csv: names users and no items.*kind: users"):
        small.carry_out(data, small.interactions_request(file=file))


def test_a_log_that_changed_after_it_was_prepared_is_told(small, tmp_path):
    data = small.make_data(small.random_events(20, 12))
    other = small.make_raw(small.random_events(20, 12, seed=1))
    request = small.interactions_request(file=small.write_request(tmp_path / "r.csv", [("nobody", "i1", 1)]))
    with pytest.raises(DataError, match="srun prepare"):
        partition(data, "r", request, read_rows(request, data), lambda: other)


def test_a_column_too_many_is_never_taken_for_another(small, tmp_path):
    """Ids that are numbers: (10, 20, 30) under the header user_id,item_id must not become user 20, item 30."""
    data = small.make_data(
        [("10", item, t) for t, item in enumerate(("5", "20", "30", "6", "7"))]
        + [("20", item, t) for t, item in enumerate(("5", "6", "30", "20", "7"))]
    )
    file = small.write_request(tmp_path / "r.csv", [("10", "20", "30")], "user_id,item_id")
    with pytest.raises(DataError, match=r"r\.csv:2:"):
        small.carry_out(data, small.interactions_request(file=file))


@pytest.mark.parametrize("text", ["", "user_id,item_id\n", "\xff\xfe"])
def test_a_file_without_requests_is_an_error_that_names_it(small, tmp_path, text):
    data = small.make_data(small.log_of([[0, 1, 2, 3, 4, 5]]))
    (tmp_path / "r.csv").write_bytes(text.encode("latin-1"))
    for path in ("r.csv", "none.csv"):
        with pytest.raises(DataError, match=path.replace(".", r"\.")):
            small.carry_out(data, small.interactions_request(file=str(tmp_path / path)))


def test_spaces_and_a_byte_order_mark_do_no_harm(small, tmp_path):
    data = small.make_data(small.log_of([[0, 1, 2, 3, 4, 5]]))
    (tmp_path / "r.csv").write_bytes(b"\xef\xbb\xbfuser_id, item_id\r\nu0, i1\r\n")
    request = small.carry_out(data, small.interactions_request(file=str(tmp_path / "r.csv")))
    assert request.info["num_forget"] == 1


def test_unknown_categories_and_users_of_a_category_request_are_named(small):
    data = small.make_data(small.random_events(20, 12), CATEGORIES)
    with pytest.raises(DataError, match=r'"rad".*did you mean "red"'):
        small.carry_out(data, small.category_request(categories=("green", "rad")))
    with pytest.raises(DataError, match="1 row unknown_user: line 2"):
        small.carry_out(data, small.category_request(users=("nobody",)))
    with pytest.raises(DataError, match="categories"):
        small.carry_out(small.make_data(small.random_events(20, 12)), small.category_request())


def test_a_request_without_training_events_is_an_error(small, tmp_path):
    data = small.make_data(small.log_of([[0, 1, 2, 3], [0, 1, 2, 3]]))
    file = small.write_request(tmp_path / "r.csv", [("u0", "i3")], "user_id,item_id")
    with pytest.raises(DataError, match='"r"'):
        small.carry_out(data, small.interactions_request(file=file))


def test_a_pair_without_a_time_means_all_its_events_held_out_ones_too(small, tmp_path):
    """Whoever asks for an item to go means all of it: what was held out was never trained on, and leaves the splits."""
    data = small.make_data(small.log_of([[0, 1, 2, 3, 1, 5], [0, 9, 2, 1, 4, 5]]))
    file = small.write_request(tmp_path / "r.csv", [("u0", "i1")], "user_id,item_id")
    request = small.carry_out(data, small.interactions_request(file=file))
    assert data.time[request.forget].tolist() == [1]
    assert request.info["num_held_out_removed"] == 1
    assert 0 not in request.queries("validation").user
    names = np.array(["0", *data.items["item_id"]])
    test = request.queries("test")
    assert names[test.histories(5)[test.user == 0]].tolist() == [["0", "0", "i0", "i2", "i3"]]


def test_a_split_that_a_request_does_not_have_is_an_error(small):
    request = small.carry_out(small.make_data(small.random_events(20, 12)), small.interactions_request())
    with pytest.raises(DataError, match="in_category"):
        request.queries("in_category")


@given(sequences=logs())
def test_validation_before_a_request_uses_raw_training_history(small, sequences):
    data = small.make_data(small.log_of(sequences), calibration_users=0.2)
    expected = []
    for user in range(data.num_users):
        own = range(data.offsets[user], data.offsets[user + 1])
        history = tuple(int(data.item[e]) for e in own if data.role[e] == Role.TRAIN)
        expected += [(user, e, int(data.item[e]), history) for e in own if data.role[e] == Role.VALIDATION]
    assert listed(original_validation(data)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_loads_equal(small, tmp_path, kind):
    data, request = carry_out(small, [[(u * 5 + k * 7) % 12 for k in range(9)] for u in range(50)], kind)
    request.save(tmp_path / "p")
    again = Partition.load(tmp_path / "p", data)
    for name in ("removed", "never_seen", "group", "forget", "retain"):
        assert (getattr(again, name) == getattr(request, name)).all()
    assert again.kind == request.kind
    assert {s: listed(q) for s, q in again.splits.items()} == {s: listed(q) for s, q in request.splits.items()}
    again.save(tmp_path / "q")
    assert (tmp_path / "p" / "info.json").read_bytes() == (tmp_path / "q" / "info.json").read_bytes()


@pytest.mark.parametrize("change", [{"seed": 1}, {"holdout": "users_80_20"}, {"calibration_users": 0.4}])
def test_a_partition_of_data_prepared_otherwise_is_refused(small, tmp_path, change):
    events = small.random_events(40, 12)
    small.carry_out(small.make_data(events, calibration_users=0.2), small.interactions_request()).save(tmp_path / "p")
    with pytest.raises(DataError, match="srun partition"):
        Partition.load(tmp_path / "p", small.make_data(events, **{"calibration_users": 0.2, **change}))


def test_a_folder_without_a_partition_is_an_error(small, tmp_path):
    with pytest.raises(DataError, match="srun partition"):
        Partition.load(tmp_path / "p", small.make_data(small.random_events(20, 12)))


def test_windows_as_users_forget_an_event_in_every_window_that_shares_it(small, tmp_path):
    data = small.make_data(small.log_of([list(range(11)), [3, 5, 2]]), holdout="window", max_length=3)
    file = small.write_request(tmp_path / "r.csv", [("u0", "i7", 7), ("u0", "i4", 4), ("u0", "i1", 1)])
    request = small.carry_out(data, small.interactions_request(file=file))
    assert sorted(data.time[request.removed].tolist()) == sorted(
        data.time[np.isin(data.time, (1, 4, 7)) & (data.user < data.user[-1])].tolist()
    )


def test_nothing_in_the_info_of_a_partition_identifies_a_user(small, tmp_path):
    """It is copied into models, evaluations and the tracker; the names of users and of files stay here."""
    data = small.make_data(small.random_events(30, 12), CATEGORIES)
    file = small.write_request(tmp_path / "about-u7.csv", [("u7", "i1")], "user_id,item_id")
    for request in (small.category_request(users=("u3", "u7")), small.users_request(file=file)):
        info = small.carry_out(data, request).info
        assert "u7" not in str(info)
        assert "u3" not in str(info)


def test_a_category_of_some_users_is_masked_for_them_alone_after_it_was_saved(small, tmp_path):
    data = small.make_data(small.random_events(30, 12), CATEGORIES)
    request = small.carry_out(data, small.category_request(users=("u3", "u4")))
    request.save(tmp_path / "p")
    pairs = Partition.load(tmp_path / "p", data).masked_pairs
    assert set(data.users["user_id"].to_numpy()[pairs[:, 0]]) == {"u3", "u4"}
    assert (pairs == request.masked_pairs).all()
