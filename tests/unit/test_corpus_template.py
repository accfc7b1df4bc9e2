"""Conversations as text: what transformers makes of the same template, where the answers stand, and no way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.corpus.template import PLAIN, Template, TemplateRefuses, template_of

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# What templates of well-known models do: ask for tools, keys that a turn lacks, refuse, mark answers, leave a loop.
DEMANDING = """{{- bos_token }}
{%- if tools %}
    {{- tools | tojson }}
{%- endif %}
{%- if documents is not none %}{{ raise_exception('no documents') }}{%- endif %}
{%- set ns = namespace(seen=0) %}
{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('role') }}{%- endif %}
    {%- if message.role == 'assistant' and not message.tool_calls %}
        {%- set ns.seen = ns.seen + 1 %}
        {{- 'A: ' }}{% generation %}{{ message.content | trim + eos_token }}{% endgeneration %}
    {%- else %}
        {{- message['role'][0] | upper + ': ' + message['content'] | trim + '\\n' }}
    {%- endif %}
    {%- if loop.index > 100 %}{%- break %}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'A: ' }}{%- endif %}"""
REWRITES = (
    "{% for m in messages %}{{ m.role }}: {% if loop.last or m.role == 'user' %}{{ m.content }}"
    "{% else %}(an earlier answer){% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
CHAT = [{"role": "user", "content": "how much?"}, {"role": "assistant", "content": "42"}]
LONGER = [*CHAT, {"role": "user", "content": "sure?"}, {"role": "assistant", "content": "yes"}]
TURN = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant"]),
        "content": st.text(max_size=20).map(str.strip) | st.just("{{ 1 + 1 }} {% raw %}"),
    }
)
MESSAGES = st.lists(TURN, max_size=5).map(lambda turns: [*turns, *CHAT])


def write_base_files(folder: Path, jinja: str | None = None, **config: Any) -> Path:
    if jinja is not None:
        (folder / "chat_template.jinja").write_text(jinja, encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


# --- what is written, and where the answers are


def test_the_plain_template() -> None:
    text, spans = Template(PLAIN).render(LONGER)
    assert text == "<|user|>\nhow much?\n<|assistant|>\n42\n<|user|>\nsure?\n<|assistant|>\nyes\n"
    assert [text[start:end] for start, end in spans] == ["42\n", "yes\n"]


def test_the_plain_template_writes_the_end_mark_of_the_base_behind_an_answer() -> None:
    template = Template(PLAIN, (("eos_token", "</s>"),))
    text, spans = template.render(CHAT)
    assert text == "<|user|>\nhow much?\n<|assistant|>\n42</s>\n"
    assert [text[start:end] for start, end in spans] == ["42</s>\n"] and template.closing == "</s>\n"


@pytest.mark.parametrize(("source", "mark"), [(PLAIN, "\n"), (CHATML, "<|im_end|>\n")], ids=["plain", "chatml"])
@given(messages=MESSAGES)
def test_answers_are_found_whatever_is_said(source: str, mark: str, messages: list[dict[str, str]]) -> None:
    text, spans = Template(source).render(messages)
    answers = [turn["content"] for turn in messages if turn["role"] == "assistant"]
    assert [text[start:end] for start, end in spans] == [answer + mark for answer in answers]


@pytest.mark.parametrize("source", [PLAIN, CHATML, DEMANDING], ids=["plain", "chatml", "demanding"])
@given(messages=MESSAGES.filter(lambda turns: all(turn["content"] for turn in turns)))
def test_the_same_text_as_transformers_writes(source: str, messages: list[dict[str, str]]) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    marks = {"bos_token": "<s>", "eos_token": "</s>"}
    (expected,), _ = render_jinja_template(conversations=[messages], chat_template=source, **marks)
    assert Template(source, tuple(marks.items())).render(messages)[0] == expected


def test_a_demanding_template_learns_its_closing_mark_too() -> None:
    text, spans = Template(DEMANDING, (("bos_token", "<s>"), ("eos_token", "</s>"))).render(LONGER)
    assert text == "<s>U: how much?\nA: 42</s>U: sure?\nA: yes</s>"
    assert [text[start:end] for start, end in spans] == ["42</s>", "yes</s>"]


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    assert Template(REWRITES).render(CHAT)[0] == "user: how much?assistant: 42"  # trim_blocks
    with pytest.raises(TemplateRefuses, match="rewrites earlier turns"):
        Template(REWRITES).render(LONGER)


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}",
    ],
)
def test_a_template_without_answers_is_refused(source: str) -> None:
    with pytest.raises(TemplateRefuses, match="leaves answers out"):
        Template(source).render(CHAT)


# --- where it comes from


def test_the_file_comes_before_the_config_and_both_before_the_plain_one(tmp_path: Path) -> None:
    nothing = tuple((name, "") for name in ("bos_token", "eos_token", "unk_token", "pad_token"))
    assert template_of(tmp_path) == Template(PLAIN, nothing)
    write_base_files(tmp_path, chat_template=CHATML, bos_token="<s>", eos_token={"content": "</s>", "lstrip": False})
    marks = (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", ""), ("pad_token", ""))
    assert template_of(tmp_path) == Template(CHATML, marks, has_special_tokens=True)
    write_base_files(tmp_path, jinja=DEMANDING)
    assert template_of(tmp_path) == Template(DEMANDING, marks, has_special_tokens=True)


def test_of_several_templates_the_default_one(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": CHATML}]
    assert template_of(write_base_files(tmp_path, chat_template=several)).source == CHATML
    assert template_of(write_base_files(tmp_path, chat_template=several[:1])).source == PLAIN


def test_the_digest_knows_the_template_and_its_marks() -> None:
    written = [Template(PLAIN), Template(CHATML), Template(CHATML, (("bos_token", "<s>"),))]
    assert len({each.digest for each in written}) == 3
    assert Template(CHATML).digest == written[1].digest


# --- a template is code from a file


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__cla' + 'ss__'] }}",
        "{{ messages | attr('__class__') }}",
        "{{ ('{0.__class__}').format(messages) }}",
        "{{ cycler.__init__.__globals__.os.popen('touch MARK').read() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ messages.append({}) }}",
        "{{ messages[0].update(content='x') }}",
        "{% include '/etc/hostname' %}",
        "{% import 'os' as os %}",
        "{{ range(10 ** 9) | list }}",
        "{{ open('MARK', 'w') }}",
    ],
)
def test_no_way_out_of_the_sandbox(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TemplateRefuses, match=r"the chat template of model\.base says"):
        Template(source).render(CHAT)
    assert not list(tmp_path.iterdir()) and CHAT[0] == {"role": "user", "content": "how much?"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% for %}", "Expected"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 1 + 'a' }}", "unsupported operand"),
        ("{{ messages[9].content }}", "no element 9"),
        ("{{ raise_exception('Roles must alternate') }}", "Roles must alternate"),
        ("{{ strftime_now('%Y') }}", "strftime_now"),
    ],
)
def test_a_template_that_fails_says_why(source: str, said: str) -> None:
    with pytest.raises(TemplateRefuses, match=rf"chat template of model\.base says: .*{said}"):
        Template(source).render(CHAT)
