"""Rows of the Fourier transforms."""

from __future__ import annotations

from tests.array_api.table import LINES, NOTHING, Row, rows

FFT: list[Row] = [
    *rows(
        """
        fft.fft(x); fft.fft(x, n=4); fft.fft(x, n=9, axis=0, norm='ortho')
        fft.ifft(x); fft.ifft(x, axis=0, norm='forward')
        fft.fftn(x); fft.fftn(x, norm='ortho')
        fft.ifftn(x); fft.ifftn(x, axes=(0,))
        """,
        kinds="c",
        shapes=LINES,
        tolerance=10,
    ),
    *rows(
        """
        fft.rfft(x); fft.rfft(x, n=6); fft.rfft(x, axis=0, norm='forward')
        fft.rfftn(x); fft.rfftn(x, axes=(0,))
        fft.ihfft(x); fft.ihfft(x, axis=0, norm='ortho')
        """,
        kinds="f",
        shapes=LINES,
        tolerance=10,
    ),
    *rows(
        """
        fft.irfft(x); fft.irfft(x, n=5); fft.irfft(x, axis=0, norm='ortho')
        fft.irfftn(x); fft.irfftn(x, axes=(0,))
        fft.hfft(x); fft.hfft(x, axis=0, n=7)
        """,
        kinds="c",
        shapes=LINES,
        tolerance=10,
    ),
    *rows(
        "fft.fftshift(x); fft.fftshift(x, axes=0)\nfft.ifftshift(x); fft.ifftshift(x, axes=(0,))",
        kinds="fc",
        shapes=LINES,
    ),
    *rows(
        "fft.fftfreq(7); fft.fftfreq(4, d=0.5); fft.fftfreq(5, dtype='float64')\n"
        "fft.rfftfreq(7); fft.rfftfreq(4, d=0.5); fft.rfftfreq(5, dtype='float64')",
        kinds="f",
        shapes=NOTHING,
        draws=(),
    ),
]
