"""Linear algebra on batches of matrices (…, m, n): the array API standard's `linalg`, and numpy's extras."""

from flowcore.ops.contract import matmul as matmul
from flowcore.ops.contract import tensordot as tensordot
from flowcore.ops.determinant import *
from flowcore.ops.matrix import diagonal as diagonal
from flowcore.ops.matrix import matrix_transpose as matrix_transpose
from flowcore.ops.matrix import trace as trace
from flowcore.ops.norms import *
from flowcore.ops.orthogonal import *
from flowcore.ops.products import cross as cross
from flowcore.ops.products import matrix_power as matrix_power
from flowcore.ops.products import outer as outer
from flowcore.ops.products import vecdot as vecdot
from flowcore.ops.solve import *
