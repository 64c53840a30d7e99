from dataclasses import replace

import pytest
import torch

from univs.inference.config import InferenceConfig
from univs.inference.entity import match_detections, new_detections
from univs.inference.outputs import QueryOutputs
from univs.inference.tracks import EntityTracks

CONFIG = InferenceConfig(class_threshold=0.25, new_object_threshold=0.1, consistency_threshold=0.25)
LEFT, RIGHT, TOP = (slice(None), slice(0, 4)), (slice(None), slice(4, 8)), (slice(0, 3), slice(None))


def _detections(regions, directions, scores):
    """Two-frame detections with masks in ``regions`` and unit embeddings along ``directions``."""
    logits = torch.full((len(regions), 2, 8, 8), -4.0)
    embeddings = torch.zeros(len(regions), 2, 32)
    for row, (region, direction) in enumerate(zip(regions, directions, strict=True)):
        logits[row][(slice(None), *region)] = 4.0
        embeddings[row, :, direction] = 4.0
    probabilities = torch.zeros(len(regions), 3)
    probabilities[:, 1] = torch.tensor(scores)
    return QueryOutputs(
        mask_logits=logits,
        embeddings=embeddings,
        class_probabilities=probabilities,
        quality=torch.ones(len(regions)),
    )


@pytest.fixture
def nothing(model):
    return EntityTracks.empty(num_classes=3, size=(8, 8), config=CONFIG, model=model).moved(0, 2)


@pytest.fixture
def tracks(nothing):
    """One entity on the left, looking along axis 0, and one on the right, along axis 1."""
    return nothing.started(_detections([LEFT, RIGHT], [0, 1], [0.9, 0.8])).aged()


def test_detections_match_by_embedding_and_fuse_where_masks_agree(tracks):
    detections = _detections([RIGHT, LEFT, TOP], [1, 0, 5], [0.7, 0.6, 0.5])
    matches = match_detections(tracks, detections, CONFIG)
    assert matches.detection.tolist() == [1, 0]
    assert matches.fused.tolist() == [True, True]
    assert new_detections(tracks, detections, matches, CONFIG).tolist() == [2]


def test_matched_detection_elsewhere_is_not_fused_but_starts_an_entity(tracks):
    detections = _detections([TOP], [0], [0.7])
    matches = match_detections(tracks, detections, CONFIG)
    assert matches.detection.tolist() == [0, -1]
    assert matches.fused.tolist() == [False, False]
    assert new_detections(tracks, detections, matches, CONFIG).tolist() == [0]


def test_entity_that_lost_its_mask_takes_it_back_by_embedding(tracks):
    later = tracks.moved(2, 4)
    matches = match_detections(later, _detections([TOP], [0], [0.7]), CONFIG)
    assert matches.fused.tolist() == [True, False]


def test_lone_entity_is_not_matched_to_a_stranger(nothing):
    # with one entity the softmax over entities is 1 for anything: only the cosine tells
    lone = nothing.started(_detections([LEFT], [0], [0.9])).aged()
    matches = match_detections(lone, _detections([RIGHT], [1], [0.7]), CONFIG)
    assert matches.detection.tolist() == [-1]


def test_detection_over_a_known_entity_or_too_weak_starts_nothing(tracks):
    detections = _detections([LEFT, TOP], [6, 7], [0.9, 0.2])
    matches = match_detections(tracks, detections, CONFIG)
    assert new_detections(tracks, detections, matches, CONFIG).tolist() == []


def test_entities_start_in_a_later_clip_after_an_empty_first_one(nothing):
    empty = _detections([], [], [])
    assert len(new_detections(nothing, empty, match_detections(nothing, empty, CONFIG), CONFIG)) == 0
    detections = _detections([LEFT, RIGHT], [0, 1], [0.5, 0.6])
    later = nothing.aged().moved(1, 3)
    matches = match_detections(later, detections, CONFIG)
    assert new_detections(later, detections, matches, CONFIG).tolist() == [1, 0]


def test_new_entities_never_exceed_the_places(tracks):
    detections = _detections([TOP, TOP], [5, 6], [0.9, 0.8])
    matches = match_detections(tracks, detections, CONFIG)
    assert new_detections(tracks, detections, matches, replace(CONFIG, max_objects=3)).tolist() == [0]
    assert new_detections(tracks, detections, matches, replace(CONFIG, max_objects=2)).tolist() == []


def test_class_of_an_entity_is_the_mean_over_its_clips(tracks):
    confirmed = tracks.reclassified(torch.tensor([[0.0, 0.1, 0.0]] * 2), torch.tensor([True, False])).aged()
    assert torch.allclose(confirmed.mean_probabilities[:, 1], torch.tensor([(0.9 + 0.5) / 2, 0.8]))


def test_lost_entities_retire_with_their_verdict_once_out_of_the_window(tracks):
    kept = tracks.accumulated(_detections([LEFT, RIGHT], [0, 1], [0.9, 0.8]), torch.tensor([True, False]))
    for _ in range(3):
        kept = kept.aged()
    assert len(kept.without_lost(2)) == 2, "masks of both are still in the window"
    gone = kept.moved(2, 4).without_lost(2)
    assert gone.ids.tolist() == [0]
    assert [summary.entity_id for summary in gone.summaries()] == [0, 1]
    assert [summary.num_masks for summary in gone.summaries()] == [2, 1]
    assert gone.started(_detections([TOP], [3], [0.5])).ids.tolist() == [0, 2]
