"""Tables as LaTeX: marks escaped, signs in their notation, gaps blank."""

import pandas as pd

from vidlib.viz import latex


def test_marks_are_escaped_and_gaps_are_blank(tmp_path):
    rows = pd.DataFrame({"acc. (%)": [57.25, float("nan")], "note_": ["46.2 ± 0.9", r"a\b {x} & 5% <1"]})
    text = latex.table(
        rows.assign(method=["A", "B"]).set_index("method"), tmp_path / "t.tex", caption="5% of $", label="t:a"
    )
    assert r"method & acc. (\%) & note\_ \\" in text and r"\begin{tabular}{lrl}" in text
    assert r"A & 57.2 & 46.2 $\pm$ 0.9 \\" in text
    assert r"B &  & a\textbackslash{}b \{x\} \& 5\% \textless{}1 \\" in text
    assert r"\caption{5\% of \$}" in text and r"\label{t:a}" in text
    assert (tmp_path / "t.tex").read_text() == text


def test_digits_by_column_and_negative_numbers():
    text = latex.table(pd.DataFrame({"delta": [-1.256], "n": [3]}), digits={"delta": 2})
    assert r"$-$1.26 & 3 \\" in text and "table}" not in text
