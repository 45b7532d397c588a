"""For how long a test waits for what must come.

Only one that fails waits so long: on a machine that is busy with other things all takes several times as long
as it does alone. What a test is to prove about time has numbers of its own, beside the proof.
"""

DEADLINE_SECONDS = 60.0
