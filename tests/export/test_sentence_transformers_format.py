"""`export --format sentence-transformers`: `encode` is `embed`."""

import pytest
import torch

from tests.export.conftest import NAMES, TEXTS
from tests.export.test_transformers_format import method_of


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*are cut")
def test_it_encodes_texts_as_we_embed_them(name, loaded):
    found = loaded[f"{name}-sentence-transformers"]
    assert found["max_length"] == 64
    assert found["modules"] == (3 if name in ("autoencoder", "vae") else 2)  # whose embedding has a linear layer
    torch.testing.assert_close(found["vectors"], method_of(name).embed(TEXTS), rtol=1e-5, atol=1e-5)
