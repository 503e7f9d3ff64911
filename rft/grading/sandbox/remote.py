"""The two programs of `judge_asserts` and their protocol: one contains the model's code, the other the tests.

Each line on their channel is JSON. The tests' program sends requests, and the model's program replies:

    ["call", path, args, kwargs]    call an object; its path is a name, or the number of an object, then attributes
    ["list", number]                the elements of an iterable object

    ["value", encoded] | ["raised", type, message]

The encoding states the type of a value, so a tuple stays a tuple. Other objects stay in the model's program, and the
tests refer to them by number.
"""

CHANNEL_FD = 200
"""File descriptor of the channel in both programs."""

VALUES = (
    f"""
CHANNEL, LONGEST = {CHANNEL_FD}, 1 << 24
"""
    + r"""
def make_coder(keep, find):
    import json
    plain = {list: "l", tuple: "t", set: "s", frozenset: "z"}
    def encode(value):
        if value is None or value is True or value is False:
            return ["v", value]
        if isinstance(value, int):
            return ["i", hex(int.__index__(value))]
        if isinstance(value, float):
            return ["f", float.hex(value)]
        if isinstance(value, complex):
            return ["c", value.real.hex(), value.imag.hex()]
        if isinstance(value, str):
            return ["v", str.__str__(value)]
        if isinstance(value, (bytes, bytearray)):
            return ["b", bytes(value).hex()]
        if isinstance(value, dict):
            return ["d", [[encode(key), encode(one)] for key, one in dict.items(value)]]
        for kind, mark in plain.items():
            if isinstance(value, kind):
                return [mark, [encode(one) for one in kind.__iter__(value)]]
        return ["o", keep(value)]
    def decode(encoded):
        mark, value = encoded[0], encoded[1]
        if mark == "v":
            return value
        if mark == "i":
            return int(value, 16)
        if mark == "f":
            return float.fromhex(value)
        if mark == "c":
            return complex(float.fromhex(value), float.fromhex(encoded[2]))
        if mark == "b":
            return bytes.fromhex(value)
        if mark == "d":
            return {decode(key): decode(one) for key, one in value}
        for kind, known in plain.items():
            if mark == known:
                return kind([decode(one) for one in value])
        return find(value)
    return encode, decode
"""
)
"""Source of the code that both programs share."""

SOLUTION = (
    VALUES
    + r"""
def harness():
    import builtins, json, os, sys
    channel, write, end = CHANNEL, os.write, os._exit
    code = json.loads(sys.stdin.read())
    os.dup2(2, 1)
    objects = []
    def keep(value):
        objects.append(value)
        return len(objects) - 1
    encode, decode = make_coder(keep, lambda path: resolve(path))
    dumps, loads, lines = json.dumps, json.loads, open(channel, "rb", closefd=False)
    def say(*record):
        line = (dumps(record) + "\n").encode()
        while line:
            line = line[write(channel, line):]
    def resolve(path):
        first, *rest = path
        found = objects[first] if isinstance(first, int) else names[first]
        for name in rest:
            found = getattr(found() if isinstance(found, type) else found, name)
        return found
    def kinds_of(kind):
        return [kind.__name__, *(one.__name__ for one in kind.__mro__ if getattr(builtins, one.__name__, None) is one)]
    def raised(error):
        say("raised", kinds_of(type(error)), str(error)[:200])
    names = {"__name__": "solution"}
    try:
        exec(compile(code, "<solution>", "exec", dont_inherit=True), names)
        found = {}
        for name, value in names.items():
            if not name.startswith("__"):
                if isinstance(value, type) and issubclass(value, BaseException):
                    found[name] = ["error", *kinds_of(value)]
                else:
                    found[name] = ["call"] if callable(value) else encode(value)
        say("names", found)
    except BaseException as error:
        raised(error)
        end(0)
    for line in lines:
        try:
            what, *order = loads(line)
            if what == "call":
                path, args, kwargs = order
                arguments = [decode(one) for one in args], {name: decode(one) for name, one in kwargs.items()}
                say("value", encode(resolve(path)(*arguments[0], **arguments[1])))
            else:
                say("value", ["l", [encode(one) for one in objects[order[0]]]])
        except BaseException as error:
            raised(error)
    end(0)
harness()
"""
)
"""The program with the model's code, which stdin contains as JSON."""

TESTS = (
    VALUES
    + r"""
class Ended(Exception):
    "The other program has ended."

class Unfit(BaseException):
    "The tests use an object that the channel cannot carry."

def collected(names):
    "Return the test functions and the methods of test classes with their parameters, as pytest collects them."
    import inspect, sys
    unittest = sys.modules.get("unittest")
    cases = []
    for name, value in list(names.items()):
        if inspect.isfunction(value) and name.startswith("test"):
            cases += expanded(value)
        elif isinstance(value, type) and unittest and issubclass(value, unittest.TestCase):
            cases += [value(one).debug for one in dir(value) if one.startswith("test")]
        elif isinstance(value, type) and name.startswith("Test"):
            cases += [case for one in dir(value) if one.startswith("test") for case in expanded(getattr(value(), one))]
    return cases

def expanded(function):
    import functools, inspect
    calls = [{}]
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize":
            names, values = mark.args[:2]
            names = names.replace(",", " ").split() if isinstance(names, str) else list(names)
            rows = [getattr(value, "values", value) if not isinstance(value, dict) else value for value in values]
            rows = [row if len(names) > 1 or row is not value else (row,) for row, value in zip(rows, values)]
            calls = [{**call, **dict(zip(names, row))} for call in calls for row in rows]
    parameters = inspect.signature(function).parameters.values()
    lacking = [one.name for one in parameters if one.default is one.empty and one.name not in calls[0]]
    if lacking:
        raise Unfit("fixture " + lacking[0])
    return [functools.partial(function, **call) for call in calls]

def harness():
    import builtins, importlib.abc, importlib.machinery, json, os, sys
    order = json.loads(sys.stdin.read())
    results = os.dup(1)
    os.dup2(2, 1)
    def report(*record):
        os.write(results, (json.dumps(record) + "\n").encode())
    lines = open(CHANNEL, "rb", closefd=False)
    def answer():
        line = lines.readline(LONGEST)
        if not line.endswith(b"\n"):
            raise Ended("the program ended, or sent too long a line")
        return json.loads(line)
    asked = []
    def ask(*question):
        asked.append(question[0])
        data = (json.dumps(question) + "\n").encode()
        try:
            while data:
                data = data[os.write(CHANNEL, data):]
        except OSError:
            raise Ended("the program ended") from None
        what, *rest = answer()
        if what == "value":
            return decode(rest[0])
        raise error_of(*rest)
    errors = {}
    def error_of(kinds, message):
        return error_class(str(kinds[0]), [str(kind) for kind in kinds[1:]])(str(message))
    def error_class(name, kinds=()):
        known = getattr(builtins, name, None)
        if isinstance(known, type) and issubclass(known, Exception):
            return known
        if name not in errors:
            bases = [getattr(builtins, kind, None) for kind in kinds]
            base = next((one for one in bases if isinstance(one, type) and issubclass(one, Exception)), Exception)
            errors[name] = type(name, (base,), {})
        return errors[name]
    class Remote:
        def __init__(self, *path):
            object.__setattr__(self, "_path", path)
        def __call__(self, *args, **kwargs):
            return ask("call", self._path, [encode(one) for one in args], {k: encode(v) for k, v in kwargs.items()})
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Remote(*self._path, name)
        def __iter__(self):
            if isinstance(self._path[0], int) and len(self._path) == 1:
                return iter(ask("list", self._path[0]))
            raise TypeError("the program's object is not iterable")
        def __bool__(self):
            raise TypeError("the program's result is no plain value")
    def hand_over(value):
        if isinstance(value, Remote):
            return list(value._path)
        if type(value) in errors.values():
            raise TypeError("an exception is no argument")
        raise Unfit(type(value).__name__)
    encode, decode = make_coder(hand_over, lambda number: Remote(number))
    try:
        what, *rest = answer()
        if what != "names":
            raise error_of(*rest)
        offered = {}
        for name, what in rest[0].items():
            if name.startswith("__"):
                continue  # the program's harness offers none; a forged one could change names of the tests
            if what[0] == "error":
                offered[name] = error_class(what[1], what[2:])
            else:
                offered[name] = Remote(name) if what[0] == "call" else decode(what)
    except Exception as error:
        report("failed", type(error).__name__ + ": " + str(error)[:200])
        os._exit(0)

    class Offered(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        "Lets tests import the solution under the name of its original file."
        def find_spec(self, name, path=None, target=None):
            return importlib.machinery.ModuleSpec(name, self, is_package=True) if name in order["modules"] else None
        def exec_module(self, module):
            vars(module).update(offered)
    sys.meta_path.append(Offered())
    names = {"__name__": "tests", "__builtins__": builtins}
    names.update((name, value) for name, value in offered.items() if not hasattr(builtins, name))
    def execute(source):
        exec(compile(source, "<tests>", "exec", dont_inherit=True), names)
    def run(index, case):
        try:
            case()
            report("case", index, True, "")
        except Unfit as error:
            report("unfit", f"a {error} cannot be handed to the program")
            os._exit(0)
        except BaseException as error:
            report("case", index, False, type(error).__name__ + ": " + str(error)[:200])
    try:
        execute(order["context"])
        names.update((name, offered[name]) for name in order["overridden"] if name in offered)
        execute(order["setup"])
        if order["candidate"]:
            names["candidate"] = Remote(*order["candidate"])
    except Unfit as error:
        report("unfit", f"a {error} cannot be handed to the program")
        os._exit(0)
    except BaseException as error:
        lacks_module = isinstance(error, ImportError) and error.name not in order["modules"]
        lacks_name = isinstance(error, (NameError, ImportError, AttributeError)) and not lacks_module
        at_fault = "failed" if asked or lacks_name else "broken"  # the program, or else the tests
        report(at_fault, type(error).__name__ + ": " + str(error)[:200])
        os._exit(0)
    cases = [lambda source=source: execute(source) for source in order["cases"]]
    if order["collect"]:
        try:
            cases += collected(names)
        except Unfit as error:
            report("unfit", f"a {error} cannot be handed to the tests")
            os._exit(0)
    report("total", len(cases))
    for index, case in enumerate(cases):
        run(index, case)
    os._exit(0)
harness()
"""
)
"""The program with the tests; stdin contains the order of `judge_asserts` as a JSON object."""
