"""Names of status codes as metrics have them everywhere: Go's, since the first of such metrics were Go's."""

import grpc

_NAMES = {code: "".join(word.capitalize() for word in code.name.split("_")) for code in grpc.StatusCode}
_NAMES[grpc.StatusCode.OK] = "OK"
_NAMES[grpc.StatusCode.CANCELLED] = "Canceled"
_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def code_name(code: grpc.StatusCode | int) -> str:
    """Returns the name of a status code, or of its number: OK, Canceled, InvalidArgument."""
    return _NAMES[_BY_NUMBER[code] if isinstance(code, int) else code]
