"""Elementary functions of one number for generated loops, written so that LLVM vectorises them; needs numba.

Transcendental functions are arithmetic (range reduction, polynomials and quotients of S. L. Moshier's Cephes library,
with errors of a few units in the last place); only sine and cosine call the C library.
"""

from __future__ import annotations

import numpy as np

from flowcore.jit.lanes import exact, f4, f8, fused, i4, i8, inf, nan


@fused
def exp_f4(x):
    y = f4(-104) if x < f4(-104) else x
    y = f4(89) if y > f4(89) else y
    n = np.floor(y * f4(1.44269504088896341) + f4(0.5))
    r = y - n * f4(0.693359375)
    r = r + n * f4(2.12194440e-4)
    p = f4(1.9875691500e-4)
    p = p * r + f4(1.3981999507e-3)
    p = p * r + f4(8.3334519073e-3)
    p = p * r + f4(4.1665795894e-2)
    p = p * r + f4(1.6666665459e-1)
    p = p * r + f4(5.0000001201e-1)
    p = p * r * r + r + f4(1)
    # 2^n in two factors, so that results below the least normal number are reached
    low = i4(n) >> i4(1)
    high = i4(n) - low
    p = p * i4((low + i4(127)) << i4(23)).view(f4) * i4((high + i4(127)) << i4(23)).view(f4)
    return x if x != x else p


@fused
def tanh_f4(x):
    # an odd rational function of least relative error on [-9, 9], found by Lawson's iteration
    y = f4(-9) if x < f4(-9) else x
    y = f4(9) if y > f4(9) else y
    z = y * y
    p = f4(1.3419890976251736e-08)
    p = p * z + f4(2.0661325834225863e-05)
    p = p * z + f4(3.499000333249569e-03)
    p = p * z + f4(0.13383984565734863)
    q = f4(7.804762276464317e-07)
    q = q * z + f4(3.291045140940696e-04)
    q = q * z + f4(2.5890223681926727e-02)
    q = q * z + f4(0.4671730697154999)
    t = y * (p * z + f4(1)) / (q * z + f4(1))
    # exactly 1 where float32 cannot tell: 1 - tanh(inf) is 0, whatever it is multiplied by
    t = f4(1) if t > f4(1) or x >= f4(9) else t
    return f4(-1) if t < f4(-1) or x <= f4(-9) else t


@fused
def exp_f8(x):
    y = f8(-746) if x < f8(-746) else x
    y = f8(710) if y > f8(710) else y
    n = np.floor(y * f8(1.4426950408889634) + f8(0.5))
    r = y - n * f8(6.93145751953125e-1)
    r = r - n * f8(1.42860682030941723212e-6)
    z = r * r
    p = (f8(1.26177193074810590878e-4) * z + f8(3.02994407707441961300e-2)) * z + f8(1)
    q = f8(3.00198505138664455042e-6) * z + f8(2.52448340349684104192e-3)
    q = (q * z + f8(2.27265548208155028766e-1)) * z + f8(2)
    p = p * r
    e = f8(1) + f8(2) * (p / (q - p))
    # as above
    low = i8(n) >> i8(1)
    high = i8(n) - low
    e = e * i8((low + i8(1023)) << i8(52)).view(f8) * i8((high + i8(1023)) << i8(52)).view(f8)
    return x if x != x else e


@fused
def tanh_f8(x):
    z = x * x
    p = f8(-9.64399179425052238628e-1) * z + f8(-9.92877231001918586564e1)
    p = p * z + f8(-1.61468768441708447952e3)
    q = (z + f8(1.12811678491632931402e2)) * z + f8(2.23548839060100448583e3)
    q = q * z + f8(4.84406305325125486048e3)
    near = x * z * (p / q) + x if z > f8(0) else x
    size = abs(x)
    far = f8(1) - f8(2) / (exp_f8(size + size) + f8(1))
    far = -far if x < f8(0) else far
    return near if size < f8(0.625) else far


@fused
def log_f4(x):
    # below the least normal number: 2^24 times as large
    y = x * f4(16777216) if x < f4(1.17549435e-38) else x
    bits = i4(f4(y).view(i4) - i4(0x3F3504F3))
    n = f4(bits >> i4(23))
    m = i4((bits & i4(0x7FFFFF)) + i4(0x3F3504F3)).view(f4) - f4(1)
    n = n - f4(24) if x < f4(1.17549435e-38) else n
    z = m * m
    p = f4(7.0376836292e-2)
    p = p * m + f4(-1.1514610310e-1)
    p = p * m + f4(1.1676998740e-1)
    p = p * m + f4(-1.2420140846e-1)
    p = p * m + f4(1.4249322787e-1)
    p = p * m + f4(-1.6668057665e-1)
    p = p * m + f4(2.0000714765e-1)
    p = p * m + f4(-2.4999993993e-1)
    p = p * m + f4(3.3333331174e-1)
    p = p * m * z + n * f4(-2.12194440e-4) - f4(0.5) * z
    p = m + p + n * f4(0.693359375)
    p = x if x == f4(inf) else p
    p = f4(-inf) if x == f4(0) else p
    return p if x >= f4(0) else f4(nan)


@fused
def log_f8(x):
    y = x * f8(18014398509481984) if x < f8(2.2250738585072014e-308) else x
    bits = f8(y).view(i8) - i8(0x3FE6A09E667F3BCD)
    n = f8(bits >> i8(52))
    m = i8((bits & i8(0xFFFFFFFFFFFFF)) + i8(0x3FE6A09E667F3BCD)).view(f8) - f8(1)
    n = n - f8(54) if x < f8(2.2250738585072014e-308) else n
    z = m * m
    p = f8(1.01875663804580931796e-4) * m + f8(4.97494994976747001425e-1)
    p = p * m + f8(4.70579119878881725854e0)
    p = p * m + f8(1.44989225341610930846e1)
    p = p * m + f8(1.79368678507819816313e1)
    p = p * m + f8(7.70838733755885391666e0)
    q = m + f8(1.12873587189167450590e1)
    q = q * m + f8(4.52279145837532221105e1)
    q = q * m + f8(8.29875266912776603211e1)
    q = q * m + f8(7.11544750618563894466e1)
    q = q * m + f8(2.31251620126765340583e1)
    p = m * z * (p / q) + n * f8(-2.121944400546905827679e-4) - f8(0.5) * z
    p = m + p + n * f8(0.693359375)
    p = x if x == f8(inf) else p
    p = f8(-inf) if x == f8(0) else p
    return p if x >= f8(0) else f8(nan)


@fused
def log1p_f4(x):
    y = f4(1) + x
    # what rounding x + 1 loses, put back (W. Kahan)
    return x if y == f4(1) or y == f4(inf) else log_f4(y) * (x / (y - f4(1)))


@fused
def log1p_f8(x):
    y = f8(1) + x
    return x if y == f8(1) or y == f8(inf) else log_f8(y) * (x / (y - f8(1)))


@fused
def expm1_f4(x):
    y = exp_f4(x)
    # as above
    z = x if y == f4(1) else (y - f4(1)) * (x / log_f4(y))
    return y - f4(1) if y == f4(inf) or y - f4(1) == f4(-1) else z


@fused
def expm1_f8(x):
    y = exp_f8(x)
    z = x if y == f8(1) else (y - f8(1)) * (x / log_f8(y))
    return y - f8(1) if y == f8(inf) or y - f8(1) == f8(-1) else z


@exact
def sqrt_f4(x):
    return np.sqrt(x)


@exact
def sqrt_f8(x):
    return np.sqrt(x)


@exact
def pow_f4(x, y):
    return x**y


@exact
def pow_f8(x, y):
    return x**y


@exact
def sin_f4(x):
    return np.sin(x)


@exact
def sin_f8(x):
    return np.sin(x)


@exact
def cos_f4(x):
    return np.cos(x)


@exact
def cos_f8(x):
    return np.cos(x)


@fused
def erf_f4(x):
    z = x * x
    p = f4(7.853861353153693e-5)
    p = p * z + f4(-8.010193625184903e-4)
    p = p * z + f4(5.188327685732524e-3)
    p = p * z + f4(-2.685381193529856e-2)
    p = p * z + f4(1.128358514861418e-1)
    p = p * z + f4(-3.761262582423300e-1)
    p = p * z + f4(1.128379165726710e0)
    size = abs(x)
    y = f4(1) / size
    v = y * y
    q = f4(2.326819970068386e-2)
    q = q * v + f4(-1.387039388740657e-1)
    q = q * v + f4(3.687424674597105e-1)
    q = q * v + f4(-5.824733027278666e-1)
    q = q * v + f4(6.210004621745983e-1)
    q = q * v + f4(-4.944515323274145e-1)
    q = q * v + f4(3.404879937665872e-1)
    q = q * v + f4(-2.741127028184656e-1)
    q = q * v + f4(5.638259427386472e-1)
    far = f4(1) - exp_f4(-z) * y * q
    # where nothing is left of the difference to 1
    far = f4(1) if size > f4(4) else far
    far = -far if x < f4(0) else far
    return far if size >= f4(1) else x * p


@fused
def erf_f8(x):
    z = x * x
    p = f8(9.60497373987051638749e0) * z + f8(9.00260197203842689217e1)
    p = p * z + f8(2.23200534594684319226e3)
    p = p * z + f8(7.00332514112805075473e3)
    p = p * z + f8(5.55923013010394962768e4)
    q = z + f8(3.35617141647503099647e1)
    q = q * z + f8(5.21357949780152679795e2)
    q = q * z + f8(4.59432382970980127987e3)
    q = q * z + f8(2.26290000613890934246e4)
    q = q * z + f8(4.92673942608635921086e4)
    size = abs(x)
    s = f8(6) if size > f8(6) else size
    n = f8(2.46196981473530512524e-10) * s + f8(5.64189564831068821977e-1)
    n = n * s + f8(7.46321056442269912687e0)
    n = n * s + f8(4.86371970985681366614e1)
    n = n * s + f8(1.96520832956077098242e2)
    n = n * s + f8(5.26445194995477358631e2)
    n = n * s + f8(9.34528527171957607540e2)
    n = n * s + f8(1.02755188689515710272e3)
    n = n * s + f8(5.57535335369399327526e2)
    d = s + f8(1.32281951154744992508e1)
    d = d * s + f8(8.67072140885989742329e1)
    d = d * s + f8(3.54937778887819891062e2)
    d = d * s + f8(9.75708501743205489753e2)
    d = d * s + f8(1.82390916687909736289e3)
    d = d * s + f8(2.24633760818710981792e3)
    d = d * s + f8(1.65666309194161350182e3)
    d = d * s + f8(5.57535340817727675546e2)
    far = f8(1) - exp_f8(-s * s) * (n / d)
    far = -far if x < f8(0) else far
    return far if size >= f8(1) else x * (p / q)
