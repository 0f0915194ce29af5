"""Parameters of notebooks/explore.ipynb."""

from pydantic import Field

from vidlib.params.few_shot import FewShotParams, MAFSARParams, SeedsParams


class ExploreParams(FewShotParams, SeedsParams):
    """The runs of ma_fsar.ipynb, so that what that notebook trained is looked at and nothing is trained twice."""

    compare: str = Field("aim", description="trained methods beside MA-FSAR, each on a ViT, as in aim,clip_fsar")

    _only_the_paper = MAFSARParams._only_the_paper
