"""SkipRec: skip, per user, the blocks of a very deep model (Chen et al., AAAI 2021, doi 10.1609/aaai.v35i5.16518).

    x_l = I_l block_l(x_{l-1}) + (1 - I_l) x_{l-1},   I_l in {0, 1} for every user and block

A policy reads a user's history and gives the log-odds of keeping every block (`policy`). A menu of patterns of blocks is chosen
at the end of training. In use every user takes the pattern of the menu with the best score at the price of compute
(`routing.dial`), and users of one pattern run together through its blocks only.

Five ways to train it:

- ``training = "gumbel"`` (recipe `skiprec-paper`): policy and network together, as in the paper,

      I_l = [odds_l + g_keep - g_skip > 0], straight through sigmoid((odds_l + g_keep - g_skip) / temperature)
      L = L_CE(I) + compute * (mean p(keep) - keep)^2

  where the second term is ours: nothing in the paper's loss asks for skipping. The menu holds the patterns the policy favours.
- ``training = "rl"``: the same, plus the self-critical term of the paper's slides,

      L_RL = - sum_l log p(A_l) (R(A) - R(argmax)),   R(A) = 1 - (kept / L)^2 if the next item is in the top 5, else -gamma

- ``training = "sandwich"``: every step trains the whole model and random patterns on real skips; the whole model teaches the others
  (`routing.sandwich`). The menu is grown block by block on validation users, and the policy fitted on what each pattern of it
  really gains each of them (`routing.fit`). One model for all budgets, where the others are best near ``keep``.
- ``training = "menu"`` (the default): a sandwich of the menu's own patterns: of 2^L patterns only a few are served, and few
  epochs are better spent on these alone. The menu is grown before the first step, on the weights that training starts from; a run
  that starts from a routed model keeps its menu.
- ``training = "depth"``: a control, stochastic depth (Huang et al. 2016): every block is kept with probability ``keep`` for every
  user, whatever the history, and its branch scaled by 1 / keep, so that the whole model is right without a scale at test time.
  Menu and policy are fitted as after a sandwich.

Deviations from the published code, each of which corrects a fault: at test time the policy takes its most probable choice,
instead of sampling (``bounded`` brings the bound of its odds back); log-odds are compared with noise on the same scale in
training and reward; the reward pays for skipping, as in the slides; the policy learns from the newest step only, since it has
seen the items that earlier steps must predict; padding takes no part in means; selection on validation; blocks are skipped, not
masked, and the policy's own cost counts. Starting from a trained model (``train.init``) is the paper's two stages, but for the
policy's own item table, which starts fresh.
"""

from __future__ import annotations

from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.techniques import techniques
from leanrec.techniques.skiprec.choice import PatternChoice
from leanrec.techniques.skiprec.config import JOINT, SkipRecConfig
from leanrec.techniques.skiprec.losses import loss_of
from leanrec.techniques.skiprec.policy import Policy


@techniques.register("skiprec", SkipRecConfig)
class SkipRecTechnique(Technique):
    """Adds the choice of a pattern of blocks and the loss that trains blocks to be skipped; see the module.

    Args:
        config: Policy and training.
    """

    name = "skiprec"
    kind: Kind = "adapt"
    needs = frozenset({"depth"})
    fills = frozenset({"choice", "criterion"})

    def __init__(self, config: SkipRecConfig) -> None:
        self.config = config

    def apply(self, model: Recommender) -> None:
        """Fill ``choice`` and ``criterion``.

        Raises:
            ConfigError: There is nothing to skip, or a policy that is fitted afterwards shall be bounded.
        """
        config, backbone = self.config, model.backbone
        if config.bounded and config.training not in JOINT:
            raise ConfigError(
                "expected technique.skiprec.bounded with training gumbel or rl, where the policy learns with the weights, got "
                f"{config.training}; a fitted policy cannot be bounded"
            )
        width = config.policy_width or backbone.width
        policy = Policy(backbone, config.policy, width, config.patterns, config.bounded)
        model.choice = PatternChoice(policy, backbone.max_length, config)
        model.criterion = loss_of(config)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """One stage; `PatternChoice.calibrate` fits what is not trained with the weights: menu, policy and dial."""
        return (base,)

    def holds(self, model: Recommender) -> bool:
        return isinstance(model.choice, PatternChoice)
