"""Train bigger networks in the same accelerator memory: residuals stored encoded.

`compress` a function or a Flax module, look at the `plan`, train as before.
"""

from epmc_jax import codecs as codecs
from epmc_jax import machines as machines
from epmc_jax import policies as policies
from epmc_jax._types import SecondOrderError as SecondOrderError
from epmc_jax.compressing import compress as compress
from epmc_jax.exporting import export_checks as export_checks
from epmc_jax.planning import Plan as Plan
from epmc_jax.planning import PlanRow as PlanRow
from epmc_jax.planning import plan as plan
from epmc_jax.policy import Policy as Policy
from epmc_jax.policy import Residual as Residual
from epmc_jax.policy import Rule as Rule
from epmc_jax.scheduling import CodecCall as CodecCall
from epmc_jax.scheduling import Schedule as Schedule
from epmc_jax.scheduling import schedule as schedule
from epmc_jax.simulating import Simulation as Simulation
from epmc_jax.transform import disable as disable

__version__ = "0.1.0"
