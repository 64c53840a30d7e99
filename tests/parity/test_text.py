"""Text encoding against the original's, for every recorded case that has expressions."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from goldens import TOLERANCE, Case, case_params, weight

from univs.config import TextConfig
from univs.model.keys import text_from_reference, text_to_reference
from univs.model.text import TextEncoder, prompt_templates


@cache
def tower(reference_compat):
    encoder = TextEncoder(TextConfig(), reference_compat=reference_compat)
    state = {f"text.{name}": tensor for name, tensor in encoder.state_dict().items()}
    named = text_to_reference(state)
    filled = {name: torch.from_numpy(weight(name, tuple(tensor.shape))) for name, tensor in named.items()}
    ours = text_from_reference(filled, state)
    encoder.load_state_dict({name.removeprefix("text."): tensor for name, tensor in ours.items()})
    return encoder


@pytest.fixture(params=case_params("forward_*.npz"))
def case(request):
    case = Case(request.param)
    if "text/tokens" not in case:
        pytest.skip(f"{case.name} has no expressions")
    return case


def expressions(case):
    return [str(expression) for expression in case.array("text/expressions")]


@pytest.mark.parametrize("reference_compat", [False, True])
def test_tokens_of_all_templates_are_the_originals(case, reference_compat):
    sentences = [template.format(each) for each in expressions(case) for template in prompt_templates()]
    tokens = tower(reference_compat).tokenize(sentences)
    tokens = F.pad(tokens, (0, 77 - tokens.shape[1])).unflatten(0, (-1, 81))
    assert torch.equal(tokens, torch.from_numpy(case.array("text/tokens")))


@pytest.mark.parametrize("reference_compat", [False, True])
def test_sentence_features_are_the_originals(case, reference_compat, note_error):
    sentences = tower(reference_compat).encode(expressions(case)).sentences
    deviation = case.deviation("text/exp_sentence_feats_frame0", sentences)
    note_error(case.name, "text sentences", deviation.error)
    assert max(deviation.error, deviation.sum_error) <= TOLERANCE


def test_word_features_and_padding_are_the_originals_in_reference_compat(case, note_error):
    features = tower(True).encode(expressions(case))
    deviation = case.deviation("text/exp_word_feats_frame0", features.words)
    note_error(case.name, "text words", deviation.error)
    assert max(deviation.error, deviation.sum_error) <= TOLERANCE
    assert features.word_valid.all()


def test_words_without_reference_compat_are_those_before_the_padding(case):
    ours, theirs = tower(False).encode(expressions(case)), tower(True).encode(expressions(case))
    num_tokens = torch.from_numpy((case.array("text/tokens")[:, 0] > 0).sum(-1))
    assert torch.equal(ours.word_valid.sum(-1), num_tokens)
    for row, count in enumerate(num_tokens.tolist()):
        torch.testing.assert_close(ours.words[row, :count], theirs.words[row, :count], atol=1e-4, rtol=1e-4)
