"""A file of rules: found by path or as a module, and every way to get it wrong is one clear error."""

import pytest

from ann2snn_cli.catalog import load_rules
from ann2snn_cli.errors import UsageError

GOOD = 'def rule(call):\n    return call.input\n\nRULES = {"aten.silu.default": rule}\n'


def test_rules_by_path_and_by_module(tmp_path, monkeypatch):
    """Each rule knows the file it came from."""
    (tmp_path / "my_rules_here.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)

    for name, origin in (("./my_rules_here.py", "my_rules_here.py"), ("my_rules_here", "my_rules_here")):
        (rule,) = load_rules(name).values()
        assert (rule.target, rule.origin) == ("aten.silu.default", origin)


def test_no_name_is_no_rules():
    """The default of the setting."""
    assert load_rules("") == {}


WRONG = {
    "no RULES": ("x = 1\n", "has no 'RULES'", "RULES ="),
    "not Python": ("def rule(:\n", "SyntaxError", "correct the file"),
    "fails": ("import no_such_module_there\n", "no_such_module_there", "correct the file"),
    "no dict": ("RULES = [1]\n", "not a dict", "RULES ="),
    "no function": ('RULES = {"aten.silu.default": 3}\n', "is a int", "def rule(call)"),
    "no operator": ("RULES = {'silu': len}\n", "there is no operator 'silu'", "aten.NAME.OVERLOAD"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_refused(what, tmp_path):
    """What is wrong, in which file, and the remedy."""
    content, message, remedy = WRONG[what]
    path = tmp_path / "wrong.py"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        load_rules(str(path))
    assert message in caught.value.what
    assert "wrong.py" in caught.value.where
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("name", ["nowhere.py", "./rules", "no_such_module_there"])
def test_a_file_that_is_not_there_is_refused(name, tmp_path, monkeypatch):
    """By path and by module."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        load_rules(name)
    assert name.removeprefix("./") in f"{caught.value.what} {caught.value.where}"
    assert caught.value.remedy
