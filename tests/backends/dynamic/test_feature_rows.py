"""Some rows of features, in either memory format."""

import pytest
import torch

from cascade.backends.dynamic.feature_rows import add_rows, put_rows, some_rows

FORMATS = [torch.channels_last, torch.contiguous_format]


@pytest.fixture
def features():
    return torch.randn(7, 3, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("rows", [[], [6], [4, 0, 2], list(range(7))])
def test_rows_are_taken_in_the_format_of_the_whole(features, memory_format, rows):
    rows = torch.tensor(rows, dtype=torch.int64)
    taken = some_rows(features.contiguous(memory_format=memory_format), rows)
    assert torch.equal(taken, features[rows])
    assert taken.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("other_format", FORMATS)
def test_rows_are_put_and_added_in_place(features, memory_format, other_format):
    rows = torch.tensor([5, 1])
    values = torch.arange(120.0).view(2, 3, 4, 5).contiguous(memory_format=other_format)
    for function, expected in ((put_rows, values), (add_rows, values + features[rows])):
        x = features.clone(memory_format=memory_format)
        result = function(x, rows, values)
        assert result.data_ptr() == x.data_ptr()
        assert torch.equal(x[rows], expected)
        assert torch.equal(x[[0, 2, 3, 4, 6]], features[[0, 2, 3, 4, 6]])


def test_features_that_are_not_dense_are_refused_where_a_copy_would_be_written_to(features):
    with pytest.raises(RuntimeError, match="view"):
        put_rows(features[:, :, ::2], torch.tensor([0]), features[:1, :, ::2])
