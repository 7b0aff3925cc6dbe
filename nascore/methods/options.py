"""What a person may set about each method (`search.options` in a configuration). No torch here."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nascore.config import Fraction, Positive, Section, TrainingConfig
from nascore.data.classes import EpisodeShape, Need
from nascore.errors import InputError
from nascore.nasib.schedule import Schedule


class CoderOptions(Section):
    """Encoder and decoder of NASES, and how they are trained (stage A)."""

    kind: Literal["categorical", "mse"] = "categorical"
    """`mse` is the release's: raw integers and squared error."""
    embedding_size: Positive | None = None
    """Dimensions; when not given, from the bits of the space (categorical) or length / 3 (mse)."""
    bits_per_dimension: Annotated[float, Field(gt=0)] = 1.5
    """Of the categorical coder; at 1.5 the round trip is exact."""
    hidden_size: Positive = 128
    noise: Annotated[float, Field(ge=0)] = 0.05
    """Deviation of the noise on embeddings in training; spreads the codes, so that neighbours in
    the embedding are neighbours in tokens."""
    steps: Positive = 1200
    batch_size: Positive = 256
    lr: Annotated[float, Field(gt=0)] = 1e-2
    num_strings: Positive = 50_000
    balanced_strings: bool = False
    """Draw strings as the release does: no value more than four times."""
    rounding: Literal["round", "ceil"] = "round"
    """Of the mse coder's output; `ceil` is the release's."""
    mse_wide_factor: Positive = 90
    """Widest hidden layer of the mse coder, in multiples of the length."""
    mse_narrow_factor: Positive = 30


class NasesOptions(Section):
    """Settings of NASES. Everything that goes beyond the paper can be switched off here."""

    coder: CoderOptions = CoderOptions()
    num_random: Positive = 5
    """Uniform architectures before the policy acts; the release explores for about 10 episodes."""
    cycle: Positive = 30
    """Children between re-initialisations of the controller from the encoder."""
    random_state: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of candidates whose state is a random architecture, as in the release."""
    num_elites: Positive = 10
    """Replay of good states: the policy starts from this many best architectures, the better the
    more often."""
    state_changes: Annotated[float, Field(ge=0)] = 2.0
    """Tokens that are redrawn in a replayed state, on average; 0 leaves it as it was trained. In
    the release, too, exploration comes from the choice of the state."""
    sigma: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Deviation of the Gaussian policy on a coordinate that moves."""
    num_moves: Annotated[float, Field(ge=0)] = 1.0
    """Proximity moves: coordinates of the embedding that move in a candidate, on average."""
    controller_lr: Annotated[float, Field(gt=0)] = 1e-3
    controller_steps: Annotated[int, Field(ge=0)] = 2
    """Policy-gradient steps after a child; 0 leaves the controller as the encoder."""
    controller_batch: Positive = 16
    critic: bool = True
    """Score candidates by a critic in the embedding; off, the first new candidate is taken."""
    critic_metrics: Annotated[tuple[Literal["values", "order"], ...], Field(min_length=1)] = (
        "values",
        "order",
    )
    """How the critic tells tokens apart: unequal ones, or how far their values are from each other.
    Of those named and their mean, each has a say by the evidence of the children."""
    critic_relevance: bool = True
    """The critic learns how much each token matters; off, all matter the same."""
    num_surrounded: Annotated[int, Field(ge=0)] = 3
    """Best architectures of which the critic sees all that differ in one token, since the policy
    may not sample the neighbour that is missing; 0 leaves it the policy's samples."""
    num_steps: Annotated[int, Field(ge=0)] = 2
    """Single tokens by which the critic improves on the best candidate before it is trained, since
    in a large space no sample is the best it knows of."""
    patience: Annotated[int, Field(ge=0)] = 12
    """Children without improvement after which the search climbs from elsewhere; 0 never does. The
    critic is too sure of regions it has not seen, and the release, too, starts every cycle at
    random."""
    num_restart_random: Positive = 3
    """Uniform architectures at the start of every later climb."""
    num_candidates: Positive = 256
    critic_memory: Annotated[int, Field(ge=10)] = 200
    """Children that the critic is fitted to: the best and the latest."""
    gap_penalty: bool = True
    """Reward (2 valid - train)^3; off, the validation accuracy itself."""
    no_repeats: bool = True
    """Never propose a network that was proposed before (isomorphic ones count as the same)."""


class PaperCoderOptions(CoderOptions):
    """The released coder. The release trains it longer: 200,000 updates with batches of 64, then
    100,000 of 128 and 50,000 of 256."""

    kind: Literal["categorical", "mse"] = "mse"
    lr: Annotated[float, Field(gt=0)] = 1e-5
    num_strings: Positive = 300_000
    steps: Positive = 20_000
    batch_size: Positive = 64
    balanced_strings: bool = True
    rounding: Literal["round", "ceil"] = "ceil"


class NasesPaperOptions(Section):
    """NASES as released; each switch of a defect is named after it."""

    coder: PaperCoderOptions = PaperCoderOptions()
    cycle: Positive = 30
    controller_lr: Annotated[float, Field(gt=0)] = 1e-5
    controller_batch: Positive = 4
    l2: Annotated[float, Field(ge=0)] = 0.002
    random_state: Annotated[float, Field(ge=0, le=1)] = 0.1
    best_state: Annotated[float, Field(ge=0, le=1)] = 0.1
    legacy_double_sigmoid: bool = True
    """Pass the controller's sigmoid output as a logit."""
    legacy_late_reward: bool = True
    """Pair the newest state and action with the previous episode's reward."""


class RandomOptions(Section):
    """Random search has nothing to set."""


class RegularizedEvolutionOptions(Section):
    """Regularized evolution: sizes in children; 100 and 25 in the paper, for 20,000 children."""

    population_size: Annotated[int, Field(ge=2)] = 10
    sample_size: Positive = 3
    """Members that compete to be the parent of the next child."""

    @model_validator(mode="after")
    def _sample_in_population(self) -> Self:
        if self.sample_size > self.population_size:
            raise ValueError(
                f"sample_size must be <= population_size, got {self.sample_size} and "
                f"{self.population_size}; lower sample_size or raise population_size"
            )
        return self


class LocalSearchOptions(Section):
    """Hill climbing with random restarts."""

    improvement: Literal["first", "best"] = "first"
    """Go on from the first neighbour that is better, or from the best of all neighbours."""
    isomorphism: bool = True
    """Count architectures whose networks are the same as one."""


class TpeOptions(Section):
    """Optuna's multivariate TPE."""

    startup_trials: Positive = 10
    """Random children before the estimator is asked; Optuna's default."""


# --- methods with shared weights --------------------------------------------------------------


class ControllerOptions(Section):
    """ENAS: an autoregressive LSTM policy and its REINFORCE (arXiv 1802.03268, released code)."""

    hidden_size: Positive = 64
    """Units of the LSTM, and of the token embeddings; 100 in the release."""
    temperature: Annotated[float, Field(gt=0)] = 5.0
    """Logits are divided by it, ..."""
    tanh_constant: Annotated[float, Field(gt=0)] = 2.5
    """... then shaped as `tanh_constant * tanh(logits)`, so that the policy stays stochastic."""
    lr: Annotated[float, Field(gt=0)] = 3.5e-4
    """Of Adam."""
    entropy_weight: Annotated[float, Field(ge=0)] = 1e-4
    """Weight of the policy's entropy, summed over the tokens; it is added to the objective only."""
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Of the moving average of rewards that is subtracted from a reward."""
    architectures: Positive = 10
    """Sampled, and judged, for one update; with one, training is unstable."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class MemoryOptions(Section):
    """The buffer of sampled architectures that the controller must be able to encode."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the encoding loss beside REINFORCE; at 0 the method is plain ENAS, bit for bit."""
    mode: Literal["reconstruct", "nll", "self"] = "reconstruct"
    """`reconstruct`: a decoder must read the architecture off the last hidden state; `nll`: the
    policy must find it likely; `self`: the policy, started from that state, must repeat it."""
    capacity: Positive = 1000
    """Different architectures that are kept; the oldest makes room."""
    warmup: Annotated[int, Field(ge=0)] = 200
    """Uniform architectures that fill it first."""
    batch_size: Positive = 32
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the decoder's input tokens that are hidden from it, so that it needs the state."""
    pretrain_steps: Annotated[int, Field(ge=0)] = 0
    """Updates by the encoding loss alone, before the search."""

    @model_validator(mode="after")
    def _sizes_in_order(self) -> Self:
        if self.batch_size > self.capacity:
            raise ValueError(
                f"batch_size must be <= capacity, got {self.batch_size} and {self.capacity}; "
                "lower batch_size or raise capacity"
            )
        if self.warmup > self.capacity:
            raise ValueError(
                f"warmup must be <= capacity, got {self.warmup} and {self.capacity}; "
                "lower warmup or raise capacity"
            )
        if self.pretrain_steps > 0 and self.warmup == 0:
            raise ValueError(
                f"pretrain_steps={self.pretrain_steps} needs architectures to learn from; raise "
                "warmup above 0"
            )
        return self


class SharedWeightsOptions(Section):
    """How the shared weights are trained: SGD along one sampled path a step, cosine rate."""

    batch_size: Annotated[int, Field(ge=2)] = 64
    lr: Annotated[float, Field(gt=0)] = 0.05
    min_lr: Annotated[float, Field(ge=0)] = 0.001
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    max_grad_norm: Annotated[float, Field(gt=0)] = 5.0
    crop_padding: Annotated[int, Field(ge=0)] = 1
    flip: bool = False
    cutout: Annotated[int, Field(ge=0)] = 0


class RandomWsOptions(Section):
    """Random search with weight sharing: uniform paths, no controller."""

    weights: SharedWeightsOptions = SharedWeightsOptions()
    reward_batch: Annotated[int, Field(ge=2)] = 128
    """Validation images on which one architecture is judged with shared weights."""
    num_candidates: Positive = 100
    """Architectures drawn at the end and ranked with shared weights."""
    num_finalists: Annotated[int, Field(ge=5)] = 5
    """Of the ranked, trained from scratch; the best of them is the result. The verdict needs 5."""
    finalists_share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Of a budget of time, kept for them; a budget of steps counts shared weights alone."""
    checkpoint_s: Annotated[float, Field(ge=0)] = 30.0
    """Seconds between checkpoints."""

    @model_validator(mode="after")
    def _finalists_among_candidates(self) -> Self:
        if self.num_finalists > self.num_candidates:
            raise ValueError(
                f"num_finalists must be <= num_candidates, got {self.num_finalists} and "
                f"{self.num_candidates}; lower num_finalists or raise num_candidates"
            )
        return self


class EnasOptions(RandomWsOptions):
    """ENAS: the paths come from a controller that learns from their shared-weight accuracy."""

    controller: ControllerOptions = ControllerOptions()
    controller_every: Positive = 10
    """Weight steps between updates of the controller."""
    start_after: Annotated[int, Field(ge=0)] = 0
    """Weight steps on uniform paths before the controller acts and learns."""
    diagnose_every: Annotated[int, Field(ge=0)] = 25
    """Controller updates between looks at what its hidden state remembers; 0 never looks."""


class MemoryEnasOptions(EnasOptions):
    """ENAS with a memory buffer (arXiv 1904.00438)."""

    memory: MemoryOptions = MemoryOptions()


# --- an architecture for each image -------------------------------------------------------------


class PolicyOptions(Section):
    """The controller of InstaNAS, which chooses operations for each image, and its learning."""

    channels: Positive = 8
    """Of its first stage; 16 in the release, whose controller costs a third of the scaled
    network."""
    num_stages: Annotated[int, Field(ge=1, le=6)] = 3
    """Each further one halves the map and doubles the channels; 4 in the release where images are
    large."""
    pooling: Annotated[int, Field(ge=1, le=8)] = 2
    """Images are averaged over squares of this side first; 1 in the release for 32x32."""
    alpha: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    """Samples have probabilities within [1 - alpha, alpha], so that exploration never ends."""
    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Of Adam."""
    decay_after: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the search after which, each time, the rate falls to a tenth; a fifth in the
    release."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.8
    full_entropy: bool = True
    """Of the Bernoulli variables; off, without the term of the operations that are not taken, as
    in the release, which prefers inactive ones a little."""


class RewardOptions(Section):
    """What a policy earns for an image: by its answer, and by its latency in a moving window."""

    positive: Annotated[float, Field(gt=0)] = 30.0
    """At the middle of the window, for a right answer."""
    negative: Annotated[float, Field(le=0)] = 0.0
    """For a wrong answer. Below 0, a weak meta-graph drives the policy into one constant answer."""
    exponent: Annotated[float, Field(gt=0)] = 1.0
    start: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Upper end of the window at the start, as a share of the latency of all operations."""
    end: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Upper end at the end, as a share of the latency of MobileNetV2 of that size."""


class AccuracyOptions(Section):
    """What a faster network may lose."""

    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Of the points of a search, each trained on as a child is, the fastest is chosen whose
    validation accuracy is at most this below the best one's; where `latency.target_ms` is given,
    the most accurate within it."""


class InstanasOptions(Section):
    """InstaNAS (arXiv 1811.10201): an architecture for each image."""

    pretraining: TrainingConfig = TrainingConfig(epochs=12, batch_size=64, lr=0.05)
    """Of the meta-graph, before the search; 164 epochs in the release."""
    keep: Fraction = 0.5
    """Share of the operations that is kept at the end of the pre-training, ..."""
    drop_from: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """... falling from all of them at this share of it."""
    controller: PolicyOptions = PolicyOptions()
    reward: RewardOptions = RewardOptions()
    accuracy: AccuracyOptions = AccuracyOptions()
    weights: SharedWeightsOptions = SharedWeightsOptions(lr=0.01, momentum=0.0)
    """Of the meta-graph in the search; no momentum, as in the release."""
    turn_steps: Positive | None = None
    """Updates of the controller, then of the meta-graph, before it is the other's turn again; one
    epoch each when not given, as in the release."""
    num_points: Annotated[int, Field(ge=1, le=26)] = 5
    """Points A, B, ... of a search, from slow to fast, that are kept with their weights."""
    points_from: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of the search at which the first is kept; before, the window is above the latency of
    MobileNetV2."""
    num_static: Positive = 50
    """Random networks of the control, the same for all images, the best of which is taken."""
    table: str = "measure"
    """Latency table: `measure` makes one before the search, `macs` counts multiply-adds instead of
    time, and anything else is a file of `nas profile`."""
    baseline: bool = False
    """Whether the final training trains MobileNetV2 of that size as well, to compare with. It takes
    as many epochs as pre-training, search and final training together, of the cheaper network."""
    checkpoint_s: Annotated[float, Field(ge=0)] = 30.0
    """Seconds between checkpoints."""


# --- networks that learn from few examples ------------------------------------------------------


class EpisodeOptions(Section):
    """A task that a few-shot network is given: a few classes with a few labelled images each."""

    ways: Annotated[int, Field(ge=2)] = 5
    """Classes of a task; each split of the data needs as many."""
    shots: Positive = 1
    """Images of each class to learn from."""
    queries: Positive = 5
    """Further images of each class by which it is judged."""


Learner = Literal["reptile", "fomaml", "maml"]


class MetaOptions(Section):
    """How a network is meta-trained, and how a task is learned with it.

    The defaults are those of Reptile's released code for mini-ImageNet but for the number of
    steps; MAML has SGD inside, at a higher rate, and Adam outside.
    """

    learner: Learner = "reptile"
    outer_steps: Positive = 200
    """Updates of the shared weights; 100,000 in Reptile's release, 60,000 in MAML's."""
    tasks: Positive = 5
    """Of which one outer step takes the mean."""
    outer_optimiser: Literal["sgd", "adam"] = "sgd"
    """Plain descent is Reptile's: phi + lr * (mean of adapted weights - phi)."""
    outer_lr: Annotated[float, Field(gt=0)] = 1.0
    """Falls along a line to 0."""
    inner_optimiser: Literal["sgd", "adam"] = "adam"
    """Adam is without momentum."""
    inner_lr: Annotated[float, Field(gt=0)] = 1e-3
    inner_steps: Positive = 8
    """On a training task."""
    last_layer: Literal["learned", "prototypes"] = "learned"
    """Where a task's last layer starts: from shared weights like all others, or from the mean
    features of each class of the task (Proto-MAML, arXiv 1903.03096), which takes far fewer outer
    steps. `maml` and `fomaml` alone: Reptile has no queries that would tell what becomes of it."""
    inner_batch: Positive | None = None
    """Images of a step on a training task; the whole support set when not given. Reptile alone."""
    train_shots: Positive | None = None
    """Images of each class to learn from while it is trained; `episode.shots` when not given. More
    of them is how Reptile, which has no queries, learns to do with fewer."""
    turned: bool = False
    """Turn each class of a training task by 0, 90, 180 or 270 degrees, all its images alike: four
    times as many classes, where a turned one is another one, as for characters (MAML, Omniglot)."""
    judge_steps: Positive | None = None
    """On a task by which it is judged; as in training when not given."""
    transductive: bool = False
    """Judge all query images of a task as one batch, so that each tells something of the others by
    the batch norms; accuracies of the two cannot be compared."""

    @model_validator(mode="after")
    def _batches_are_reptiles(self) -> Self:
        if self.inner_batch is not None and self.learner != "reptile":
            raise ValueError(
                f"inner_batch is for reptile only, got {self.inner_batch} with {self.learner}; "
                "leave it out, or use reptile"
            )
        return self

    @model_validator(mode="after")
    def _prototypes_need_queries(self) -> Self:
        if self.last_layer == "prototypes" and self.learner == "reptile":
            raise ValueError(
                "last_layer = prototypes is for maml and fomaml, got reptile, which has no query "
                "images; use fomaml, or set last_layer to learned"
            )
        return self


class ProgressiveOptions(Section):
    """How the search grows cells; how many blocks there may be is `search.space.max_blocks`."""

    first: Positive | None = None
    """Cells of one block that are trained, at random; all when not given."""
    top: Positive = 8
    """K: of every later stage, the cells that the predictor ranks first."""
    quota: Annotated[int, Field(ge=0)] = 1
    """Beside them, cells at random."""
    ensemble: Positive = 5
    """Predictors whose mean ranks the cells; each leaves out another part of the data."""


_WAYS = "search.options.episode.ways"


class FewShotOptions(Section):
    """What the options of every method with `Method.few_shot` offer."""

    episode: EpisodeOptions = EpisodeOptions()

    @property
    def num_classes(self) -> int:
        """Of a network's answer, whatever classes the data has."""
        return self.episode.ways

    @property
    def needs(self) -> tuple[Need, ...]:
        """The largest tasks that are drawn of each split; the data is checked for them."""
        images = "search.options.episode.shots + queries"
        return (Need(self.shape, ways=_WAYS, images=images),)

    @property
    def shape(self) -> EpisodeShape:
        """Of the tasks by which networks are compared."""
        return EpisodeShape(self.episode.ways, self.episode.shots, self.episode.queries)


class AutoMetaOptions(FewShotOptions):
    """Auto-Meta (arXiv 1806.06927): progressive search for networks that learn from few examples.

    A few-shot network has no epochs and no batches of images: of `search.child` and `train`, only
    `device` is read. A child is trained by `meta`, the winner by `final`.
    """

    meta: MetaOptions = MetaOptions()
    """The brief meta-training of a child."""
    valid_episodes: Annotated[int, Field(ge=2)] = 100
    """Tasks of validation classes by which a child is judged."""
    progressive: ProgressiveOptions = ProgressiveOptions()
    cell: Literal["search", "published"] = "search"
    """`published` judges the cell that Auto-Meta found, and proposes no other."""
    tasks_at_once: Literal["measure", "vmap", "loop", "channels_last", "plain"] = "measure"
    """All tasks of a step at once, or one after the other, these with images as they are or with
    their channels last in memory, or `plain`, so and without `torch.func`: what is fastest depends
    on sizes and on the machine. Measured once before the search, which is the same whoever goes on
    with it."""
    final: MetaOptions = MetaOptions(outer_steps=2000)
    """The full meta-training of the winner, and of the four-convolution network beside it."""
    four_convolutions: MetaOptions | None = None
    """That of the four-convolution network, where tasks suit it at another rate or in more steps;
    as `final` when not given. Training tasks and their number must be the same."""
    test_shots: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 5)
    """Images of each class with which the trained network is tested, one after the other."""
    test_episodes: Annotated[int, Field(ge=600)] = 600
    """Tasks of test classes for each of them."""

    @model_validator(mode="after")
    def _second_order_is_not_plain(self) -> Self:
        if self.tasks_at_once == "plain" and self.meta.learner == "maml":
            raise ValueError(
                "tasks_at_once = plain is of first order, and meta.learner = maml of second; "
                "set the first to measure, or the second to fomaml"
            )
        return self

    @model_validator(mode="after")
    def _control_sees_the_same(self) -> Self:
        for name in ("outer_steps", "tasks", "train_shots", "turned", "transductive"):
            own, other = getattr(self.final, name), getattr(self.control, name)
            if own != other:
                raise ValueError(
                    f"four_convolutions.{name} = {other}: must be that of final, which is {own}; "
                    "networks are compared by the same tasks"
                )
        return self

    @property
    def control(self) -> MetaOptions:
        """The meta-training of the four-convolution network."""
        return self.final if self.four_convolutions is None else self.four_convolutions

    @property
    def needs(self) -> tuple[Need, ...]:
        ways, queries = self.episode.ways, self.episode.queries
        own = (
            ("train", "meta.train_shots", self.meta.train_shots),
            ("train", "final.train_shots", self.final.train_shots),
            ("test", "test_shots", max(self.test_shots)),
        )
        more = (
            Need(
                EpisodeShape(ways, shots, queries),
                (split,),
                ways=_WAYS,
                images=f"search.options.{name} + episode.queries",
            )
            for split, name, shots in own
            if shots is not None and shots > self.episode.shots
        )
        return (*super().needs, *more)

    @property
    def judging(self) -> dict[str, Any]:
        """How a child is trained and judged, a control's too (`nascore.identity.judging_of`)."""
        return self.model_dump(mode="json", include={"episode", "meta", "valid_episodes"})


# --- a search within any budget ------------------------------------------------------------------


class ScheduleOptions(Section):
    """What a budget does to a search, over its spent share (`nascore.nasib.schedule`)."""

    shortest: Positive = 50
    """Weight updates; a budget of fewer explores as this one does, ..."""
    longest: Positive = 50_000
    """... and one of more as this one."""
    least: float = 0.1
    """Share of the shortest budget in which there is exploration, ..."""
    most: float = 0.6
    """... and of the longest."""
    warmup: float = 0.1
    """Share in which paths are uniform and the distribution does not learn; part of the budget."""
    hot: float = 5.0
    """Temperature of the Gumbel softmax at the start, ..."""
    cold: float = 0.1
    """... and at the end."""
    entropy_weight: float = 0.01
    """Of the distribution's entropy in the objective at the start; a penalty in the last fifth."""
    eliminate_at: tuple[float, ...] | None = None
    """Growing shares of the budget at which values are dropped; from the end of the exploration on,
    equally spaced on each axis, when not given."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        try:
            self.over(1)
        except InputError as error:
            told = [str(problem).rpartition("schedule.")[2] for problem in error.problems]
            raise ValueError("; ".join(told)) from None
        return self

    def over(self, steps: int) -> Schedule:
        """The schedule of a search of so many weight updates."""
        return Schedule(steps, **self.model_dump())


class LogitsOptions(Section):
    """How the distribution of NASIB learns: Adam, on images that train no weights."""

    reach: Annotated[float, Field(gt=0)] = 6.0
    """How far a logit can move in a search: the rate is this over the number of updates. With 6 and
    the 20,000 updates of DARTS it is the 3e-4 of DARTS."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """A rate that is the same for all budgets, instead."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.5,
        0.999,
    )
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3


class NasibOptions(Section):
    """NASIB (arXiv 1910.08665): many operations, searched within any budget."""

    weights: SharedWeightsOptions = SharedWeightsOptions(lr=0.025, weight_decay=3e-4)
    logits: LogitsOptions = LogitsOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    max_weightless: Annotated[int, Field(ge=0)] | None = 2
    """Edges of a cell that may end as identity or pooling. Shared weights prefer them, since they
    need no training: without a limit (null) a short search leaves little else."""
    judge_batch: Annotated[int, Field(ge=2)] = 128
    """Images whose statistics normalise a network that is judged with shared weights."""
    num_candidates: Positive = 50
    """Of the control: random architectures, the best of which by shared weights is its choice."""
    num_trainings: Annotated[int, Field(ge=5)] = 5
    """From scratch, of what each arm has chosen: the verdict compares them. They come after the
    budget, and only beside a control."""
    checkpoint_s: Annotated[float, Field(ge=0)] = 30.0
    """Seconds between checkpoints."""
