"""Settings of hypothesis by which a test does the same each time, on a machine as busy as it likes."""

from hypothesis import HealthCheck, settings

steady = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
