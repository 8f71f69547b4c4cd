"""How far answers moved, with what is the same for all samples taken out."""


def relative_error(got, wanted):
    """‖d‖ / ‖f‖, d = got − wanted and f = wanted, both less their mean over the samples."""
    got, wanted = (values.double() - values.double().mean(0) for values in (got, wanted))
    return float((got - wanted).norm() / wanted.norm())
