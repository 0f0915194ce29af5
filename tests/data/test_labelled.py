"""Sentences: drawn by chance of their own, and masked word by word."""

import itertools
import pickle

import pytest
import torch

from vidlib.backbones.clip import tokenizer
from vidlib.basics.errors import UserError
from vidlib.data.labelled import Sentences, vocabulary

TEXTS = ["riding a unicycle", "Snatch-weight lifting, twice!", "putting on a face-mask", "faceplanting (mask) & 'mask'"]
TEMPLATES = ("A video of {}", "{}: look?")


def clip(length: int = 40):
    return tokenizer("small", length)


def masking(templates=TEMPLATES, length=40, share=0.2, texts=TEXTS, seed=0) -> Sentences:
    return Sentences(clip(length), texts, templates, seed, vocabulary(texts, templates), share)


def words_of(sentence: str) -> list[tuple[str, str, str]]:
    """(before, word, after) of each part between spaces, character by character."""
    parts = []
    for chunk in sentence.split():
        inner = [i for i, c in enumerate(chunk) if c.isalnum()]
        first, last = (inner[0], inner[-1] + 1) if inner else (len(chunk), len(chunk))
        parts.append((chunk[:first], chunk[first:last], chunk[last:]))
    return parts


def candidates(sentence: str, number: dict[str, int], tokenize, share: float = 0.2):
    """Every way to mask the sentence: (ids, what is asked in the order of the sentence, places before the mask)."""
    parts = words_of(sentence)
    places = [i for i, part in enumerate(parts) if part[1]]
    for hidden in itertools.combinations(places, max(1, round(share * len(places)))):
        shown = [f"{a} mask {c}" if i in hidden else a + w + c for i, (a, w, c) in enumerate(parts)]
        before = [" ".join(shown[:i]) + " " + parts[i][0] for i in hidden]
        places_of = [int(tokenize([text])[0].argmax()) for text in before]
        yield tokenize([" ".join(shown)])[0], {p: number[parts[i][1].lower()] for p, i in zip(places_of, hidden)}  # noqa: B905


def test_ids_are_the_tokens_of_every_text_in_every_template():
    sentences = Sentences(clip(), TEXTS, TEMPLATES, 0)
    assert sentences.ids.shape == (2, 4, 40)
    assert torch.equal(sentences.ids[1, 2], clip()(["putting on a face-mask: look?"])[0])


def test_templates_are_drawn_evenly_and_from_seed_step_and_slot_alone():
    sentences, templates = Sentences(clip(), TEXTS, (*TEMPLATES, "{}"), 5), 3
    counts = [0] * templates
    for step in range(200):
        drawn = sentences.drawn(1, step, 3)
        (template,) = [p for p in range(templates) if torch.equal(drawn, sentences.ids[p, 1])]
        counts[template] += 1
    assert min(counts) > 45
    again = Sentences(clip(), TEXTS, (*TEMPLATES, "{}"), 5)
    assert all(torch.equal(again.drawn(2, step, 1), sentences.drawn(2, step, 1)) for step in (7, 3, 7))
    for key in ("seed", "step", "slot"):
        other = Sentences(clip(), TEXTS, (*TEMPLATES, "{}"), 6 if key == "seed" else 5)
        step, slot = (1000 if key == "step" else 0), (1000 if key == "slot" else 0)
        assert not all(torch.equal(other.drawn(0, step + i, slot), sentences.drawn(0, i, 0)) for i in range(12))


@pytest.mark.parametrize("share", [0.2, 0.5])
@pytest.mark.parametrize("length", [40, 9, 5])
def test_masked_is_the_drawn_sentence_with_words_replaced(share, length):
    sentences, tokenize = masking(length=length, share=share), clip(length)
    number = {word: i for i, word in enumerate(vocabulary(TEXTS, TEMPLATES))}
    seen = set()
    for label in range(len(TEXTS)):
        ways = [list(candidates(t.format(TEXTS[label]), number, tokenize, share)) for t in TEMPLATES]
        for step in range(60):
            ids, words = sentences.masked(label, step, 2)
            assert ids.shape == words.shape == (length,) and ids.dtype == words.dtype == torch.int64
            template = [torch.equal(sentences.ids[p, label], sentences.drawn(label, step, 2)) for p in (0, 1)]
            asked = {i: int(w) for i, w in enumerate(words) if w != -100}
            fits = [
                (p, i)
                for p in (0, 1)
                if template[p]
                for i, (wanted, places) in enumerate(ways[p])
                if torch.equal(ids, wanted) and asked == {at: w for at, w in places.items() if at < length - 1}
            ]
            assert fits, (label, step, ids, asked)
            assert all(ids[at] == tokenize(["mask"])[0, 1] for at in asked)
            seen |= {(label, *fit) for fit in fits}
    every = sum(len(list(candidates(t.format(x), number, tokenize, share))) for t in TEMPLATES for x in TEXTS)
    assert len(seen) > 0.6 * every


def test_words_of_many_pieces_shift_nothing():
    text = "unicycling antidisestablishmentarianism"
    sentences = masking(("{} ends",), texts=[text], length=40)
    names, end = vocabulary([text], ("{} ends",)), 49407
    whole = {word: int(clip()([word])[0].argmax()) - 1 for word in names}
    assert whole["antidisestablishmentarianism"] > 3
    found = set()
    for step in range(30):
        ids, words = sentences.masked(0, step, 0)
        (at,) = (words != -100).nonzero().flatten().tolist()
        word = names[int(words[at])]
        found.add(word)
        before = {"unicycling": [], "antidisestablishmentarianism": ["unicycling"]}.get(word, text.split())
        assert at == 1 + sum(whole[w] for w in before)
        assert int((ids == end).nonzero()) == 2 + sum(whole[w] for w in names if w != word)
    assert found == set(names)


def test_the_vocabulary_is_every_word_once_lower_case_without_punctuation():
    assert vocabulary(["Riding a bike.", "riding, (fast) push-ups"], ["A video of {}!", "{} & don't"]) == (
        "a", "bike", "don't", "fast", "of", "push-ups", "riding", "video"
    )  # fmt: skip


def test_a_sentence_without_words_asks_for_none():
    sentences = Sentences(clip(), ["?!", "run"], ["{}"], 0, ("run",))
    ids, words = sentences.masked(0, 0, 0)
    assert torch.equal(ids, clip()(["?!"])[0]) and (words == -100).all()


def test_an_unknown_word_and_a_wrong_share_are_refused():
    with pytest.raises(UserError, match="vocabulary lacks 'bike', 'video'"):
        Sentences(clip(), ["riding a bike"], ["A video of {}"], 0, ("a", "of", "riding"))
    for share in (0, 1.5):
        with pytest.raises(UserError, match="share"):
            Sentences(clip(), TEXTS, TEMPLATES, 0, share=share)
    with pytest.raises(ValueError, match="vocabulary"):
        Sentences(clip(), TEXTS, TEMPLATES, 0).masked(0, 0, 0)


def test_another_process_masks_the_same_without_a_tokenizer():
    sentences = masking()
    packed = pickle.dumps(sentences)
    assert len(packed) < 50_000
    for a, b in zip(sentences.masked(3, 4, 5), pickle.loads(packed).masked(3, 4, 5), strict=True):
        assert torch.equal(a, b)
