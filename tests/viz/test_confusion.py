import numpy as np
import pytest

from tests.viz.conftest import boxes, overlapping
from vidlib.basics.errors import UserError
from vidlib.viz import confusion, style

NAMES = ["moving from left to right", "growing", "turning clockwise"]
COUNTS = np.array([[6, 2, 2], [0, 5, 0], [0, 0, 0]])


def test_rows_are_shares_of_the_true_class():
    ax = confusion.plot(COUNTS, NAMES, title="embedded world moving_shapes, 5-way 1-shot, test classes")
    drawn = np.ma.filled(ax.collections[0].get_array(), np.nan)
    np.testing.assert_allclose(drawn, [[60, 20, 20], [0, 100, 0], [np.nan] * 3])
    assert sorted(filter(None, (t.get_text() for t in ax.texts))) == ["100", "20", "20", "60"]
    assert [t.get_text() for t in ax.get_yticklabels()] == NAMES
    assert not overlapping(boxes(ax.get_yticklabels()))
    words = {t.get_text(): t.get_color() for t in ax.texts}
    assert words["100"] == "white" and words["60"] == words["20"] == style.INK, "dark on what is light"


def test_long_names_of_many_classes_do_not_run_into_each_other():
    ax = confusion.plot(np.eye(24), [f"pushing something {i} from left to right" for i in range(24)])
    assert not overlapping(boxes(ax.get_yticklabels())) and not overlapping(boxes(ax.get_xticklabels()))


def test_the_table_holds_every_cell():
    table = confusion.table(COUNTS, NAMES)
    assert len(table) == 9
    cell = table[(table["true"] == NAMES[0]) & (table["predicted"] == NAMES[1])]
    assert cell["count"].item() == 2 and cell["share"].item() == 20


def test_many_classes_have_colours_only():
    ax = confusion.plot(np.eye(20), [f"class {i}" for i in range(20)])
    assert not ax.texts


def test_a_matrix_that_does_not_fit_is_named():
    with pytest.raises(UserError, match="2 classes need 2 x 2 counts, not 3 x 3"):
        confusion.plot(COUNTS, NAMES[:2])
