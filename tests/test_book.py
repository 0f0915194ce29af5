"""The rendered notebooks: links, the note on how they were executed, and names that are wrong."""

from docs import book


def test_a_page_says_how_it_was_executed_and_links_to_pages(tmp_path):
    (tmp_path / "ma_fsar.html").write_text("built before")
    assert book.build(["index"], "smoke", tmp_path) == {}
    page = (tmp_path / "index.html").read_text()
    assert "numbers that were computed mean nothing" in page
    assert 'href="ma_fsar.html"' in page and 'href="ma_fsar.ipynb"' not in page
    assert 'href="few_shot.ipynb"' in page, "a notebook that has no page yet is linked as it is"


def test_a_wrong_name_is_one_sentence(capsys):
    assert book.main(["ma_fsa"]) == 2
    assert capsys.readouterr().err == "make book: there is no notebook 'ma_fsa' (did you mean 'ma_fsar'?)\n"
