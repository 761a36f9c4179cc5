"""Captions from a server, held against one here that answers as llama.cpp's and vLLM's documentation describe."""

from __future__ import annotations

import base64
import email.utils
import io
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.captioning.fake_server import Fake, Reply, Seen, completion, llama_error, serving, vllm_error
from tests.paintings import clouds
from velatura.captioning.answers import PROMPT
from velatura.captioning.captioner import Answer, Asked
from velatura.captioning.endpoint import Endpoint, data_uri
from velatura.captioning.server import Server, address, refuse_offline
from velatura.captioning.writing import Captioning
from velatura.dataset import authors, journal
from velatura.errors import ModelError

KEY = "sk-secret-0123456789"
BLIND = "image input is not supported"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures."""
    made = tmp_path / "set"
    made.mkdir()
    for seed in range(6):
        clouds(seed, (48, 32)).save(made / f"{seed}.png")
    return made


class Waits(list[float]):
    """Counts the seconds that would have been waited."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def endpoint(fake: Fake, *, waits: Waits | None = None, timeout: float = 5.0, key: str = "", **told: Any) -> Endpoint:
    server = Server(address(fake.url), key, timeout, waits if waits is not None else Waits())
    return Endpoint(server, **{"model": "seeing", **told})


def asked(folder: Path, number: int = 0, **told: Any) -> Asked:
    return Asked(f"{number}.png", folder / f"{number}.png", **told)


def test_a_picture_goes_out_as_a_bounded_jpeg_without_name_and_exif(fake: Fake, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a private remark"
    clouds(1, (600, 300)).save(folder / "0.png", exif=exif)

    [answer] = endpoint(fake, side=128, system="You see.", max_tokens=50, temperature=0.5, seed=3).describe(
        [asked(folder)]
    )

    assert answer == Answer(("a boat on a lake",))
    [seen] = fake.asked
    told = dict(seen.body)
    system, user = told.pop("messages")
    assert told == {"model": "seeing", "stream": False, "max_tokens": 50, "temperature": 0.5, "seed": 3}
    assert system == {"role": "system", "content": "You see."}
    words, picture = user["content"]
    assert words == {"type": "text", "text": PROMPT} and picture["type"] == "image_url"
    kind, _, data = picture["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    raw = base64.b64decode(data)
    with Image.open(io.BytesIO(raw)) as sent:
        assert sent.format == "JPEG" and sent.size == (128, 64) and not sent.getexif()
    assert b"private" not in raw and "0.png" not in str(seen) and "Authorization" not in seen.headers


def test_small_pictures_are_not_enlarged(folder: Path) -> None:
    with Image.open(io.BytesIO(base64.b64decode(data_uri(folder / "0.png", 1024).partition(",")[2]))) as sent:
        assert sent.size == (48, 32)


def test_a_model_that_is_not_named_is_the_only_one(fake: Fake, folder: Path) -> None:
    fake.names = ("/models/qwen2.5-vl.gguf",)  # as llama.cpp names it
    made = endpoint(fake, model="")

    assert made.model == "/models/qwen2.5-vl.gguf" and made.settings["model"] == "qwen2.5-vl.gguf"
    fake.names = ("one", "two")
    with pytest.raises(ModelError, match="has 2 models: one, two"):
        endpoint(fake, model="")
    fake.names = ()
    with pytest.raises(ModelError, match="has no model"):
        endpoint(fake, model="")


def test_prompts_give_a_caption_each_and_tags_come_in(fake: Fake, folder: Path) -> None:
    fake.replies = [lambda one: Reply(completion(one.body["messages"][0]["content"][0]["text"]))]
    made = endpoint(fake, prompts=("Long, with {tags}", "Short"))

    [answer] = made.describe([asked(folder, tags=("hat",))])

    assert answer.captions == ("Long, with hat", "Short A tagger noted: hat. Use what of it is true.")


def test_the_key_goes_to_the_server_and_nowhere_else(fake: Fake, folder: Path) -> None:
    made = endpoint(fake, key=KEY)
    list(Captioning(folder, made))

    assert all(seen.headers["Authorization"] == f"Bearer {KEY}" for seen in fake.asked)
    written = "".join(path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".txt"))
    assert KEY not in written and KEY not in repr(made.server) and "127.0.0.1" not in written
    fake.replies = [vllm_error(400, f"{KEY} may not see this", "BadRequestError")]
    [answer] = made.describe([asked(folder)])
    assert KEY not in answer.why and "may not see this" in answer.why


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (completion("a boat", ended="length", tokens=300), "cut off at 300 tokens"),
        (completion(""), "the answer is empty"),
        (completion(None, reasoning_content="Let me think"), "the answer is empty"),
        (completion(None, refusal="I can't help with that"), "the model refuses: I can't help"),
        (completion("I'm sorry, but I can't describe people."), "the model refuses: I'm sorry"),
        (completion("I cannot assist with this request."), "the model refuses"),
        (completion("a boat", ended="content_filter"), "filter holds the answer back"),
        (completion("a boat<|im_end|>"), "the model's own marks in it"),
        (completion("!!! ???"), "is not text"),
        (completion("a boat \ufffd\ufffd"), "is not text"),
        (completion("the boat " * 40), "repeats itself"),
        (completion("".join(f"boat {number}, " for number in range(9000))), "is no caption"),
        ({"object": "chat.completion", "choices": []}, "no answer in it"),
        ({"choices": [{"message": 3}]}, "no answer in it"),
        ({"choices": "x"}, "no answer in it"),
        ({"error": {"code": 500, "message": "out of slots", "type": "server_error"}}, "the server says: out of slots"),
        (completion("I don't see any image attached."), "shown no picture"),
        (completion("Please provide the image you would like me to describe."), "shown no picture"),
        (completion("It seems that you forgot to attach the picture, there is no file."), "shown no picture"),
    ],
)  # fmt: skip
def test_what_is_no_caption_is_said_and_not_asked_again(fake: Fake, folder: Path, reply: Any, why: str) -> None:
    fake.replies = [Reply(reply)]
    [answer] = endpoint(fake).describe([asked(folder)])

    assert answer.captions == () and why in answer.why and len(fake.asked) == 1


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        ("<think>It may be a boat.\n</think>\n\nA boat.", "A boat."),
        ('"A boat on a lake."', "A boat on a lake."),
        ([{"type": "text", "text": "A boat"}, {"type": "text", "text": "on a lake."}], "A boat on a lake."),
        ("A sign that says \"I'm sorry\".", "A sign that says \"I'm sorry\"."),
        ("Eine Frau\nmit Hut", "Eine Frau mit Hut"),
        ("一艘船在湖上。", "一艘船在湖上。"),
    ],
)  # fmt: skip
def test_what_is_around_a_caption_is_taken_off(fake: Fake, folder: Path, content: Any, caption: str) -> None:
    fake.replies = [Reply(completion(content))]
    assert endpoint(fake).describe([asked(folder)]) == [Answer((caption,))]


def test_a_rate_limit_is_waited_for_as_long_as_the_server_says(fake: Fake, folder: Path) -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    fake.replies = [
        Reply({"error": {"message": "Rate limit reached"}}, 429, {"Retry-After": "7"}),
        Reply({"error": {"message": "Rate limit reached"}}, 429, {"Retry-After": later}),
        llama_error(503, "Loading model", "unavailable_error"),
        Reply(completion("a boat")),
    ]
    waits = Waits()

    assert endpoint(fake, waits=waits).describe([asked(folder)]) == [Answer(("a boat",))]
    assert waits[0] == 7 and 25 < waits[1] <= 30 and waits[2] == 4


def test_tries_end(fake: Fake, folder: Path) -> None:
    limited, failing = Waits(), Waits()
    fake.replies = [Reply({"error": "slow down"}, 429)]
    [answer] = endpoint(fake, waits=limited).describe([asked(folder)])
    assert answer.why == "the server says 429: slow down" and list(limited) == [1, 2, 4, 8]

    fake.replies = [vllm_error(500, "EngineCore died", "InternalServerError")]
    [answer] = endpoint(fake, waits=failing).describe([asked(folder)])
    assert answer.why == "the server says 500: EngineCore died" and list(failing) == [1, 2]


def test_a_server_that_wants_to_be_left_alone_for_long_is(fake: Fake, folder: Path) -> None:
    fake.replies = [Reply({}, 429, {"Retry-After": "3600"})]
    with pytest.raises(ModelError, match="left alone for 60 min"):
        endpoint(fake).describe([asked(folder)])
    assert len(fake.asked) == 1


def test_a_server_that_does_not_answer_in_time_is_asked_again_and_then_left(fake: Fake, folder: Path) -> None:
    fake.replies = [Reply(completion("late"), seconds=0.6), Reply(completion("a boat"))]
    assert endpoint(fake, timeout=0.2).describe([asked(folder)]) == [Answer(("a boat",))]

    fake.replies = [Reply(completion("late"), seconds=0.6)]
    [answer] = endpoint(fake, timeout=0.1).describe([asked(folder)])
    assert answer.why == "no answer within 0.1 s; --timeout gives more"


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (vllm_error(404, "The model `seeing` does not exist.", "NotFoundError"), "has no such model: The model"),
        (Reply({"error": {"message": 'model "seeing" not found, try pulling it first'}}, 404), "no such model: model"),
        (Reply({"detail": "Not Found"}, 404), "nothing at this address"),
        (Reply({"error": "Unauthorized"}, 401), "wants a key"),
        (Reply({}, 403), "wants a key"),
        (Reply(b"<html>welcome</html>"), "does not speak as OpenAI's"),
        (Reply([1, 2]), "does not speak as OpenAI's"),
        (Reply(b"", 307, {"Location": "http://elsewhere.example/v1"}), "sends us on to http://elsewhere.example/v1"),
        (Reply({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, 402), "used up"),
        (llama_error(500, f"{BLIND} - hint: you may need to provide the mmproj", "server_error"), "takes no pictures"),
        (llama_error(501, BLIND, "not_supported_error"), "takes no pictures"),
        (vllm_error(400, "seeing is not a multimodal model", "BadRequestError"), "takes no pictures: seeing is not"),
        (vllm_error(400, "At most 0 image(s) may be provided in one prompt.", "BadRequestError"), "takes no pictures"),
        (Reply({"object": "error", "message": "seeing is not a multimodal model", "code": 400}, 400), "takes no pict"),
        (Reply({"error": {"message": '"seeing" does not support vision', "type": "api_error"}}, 400), "takes no pictu"),
        (Reply({"error": "this model is missing data required for image input"}, 500), "takes no pictures: this model"),
    ],
)
def test_what_no_other_picture_would_change_is_one_sentence(
    fake: Fake, folder: Path, reply: Reply, sentence: str
) -> None:
    fake.replies = [reply]
    with pytest.raises(ModelError, match=sentence.replace("(", "\\(")):
        endpoint(fake).describe([asked(folder), asked(folder, 1)])


def test_a_wrong_key_is_told_without_it(fake: Fake, folder: Path) -> None:
    fake.replies = [Reply({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401)]
    with pytest.raises(ModelError, match="refuses the key") as caught:
        endpoint(fake, key=KEY).describe([asked(folder)])
    assert KEY not in str(caught.value)


def test_where_no_server_listens_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "getproxies", dict)  # a proxy would answer for the machine that is not there
    with serving() as gone:
        url = gone.url
    with pytest.raises(ModelError, match="no server listens there"):
        Endpoint(Server(url, wait=Waits()), "seeing").describe([asked(folder)])
    with pytest.raises(ModelError, match="no machine has this name"):
        Endpoint(Server("http://nowhere.invalid/v1", wait=Waits()), "seeing").describe([asked(folder)])


def test_a_model_that_sees_nothing_stops_the_work_at_once(fake: Fake, folder: Path) -> None:
    fake.replies = [llama_error(500, "image input is not supported - hint: provide the mmproj", "server_error")]
    with pytest.raises(ModelError, match="the server's model takes no pictures: image input is not") as caught:
        list(Captioning(folder, endpoint(fake)))

    assert len(fake.asked) == 1 and "--mmproj" in str(caught.value)
    assert not list(folder.glob("*.txt")) and not (folder / ".originals").exists()


@pytest.mark.parametrize(
    "reply",
    [
        llama_error(
            400, "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
            "exceed_context_size_error",
        ),
        vllm_error(400, "The decoder prompt (length 12324) is longer than the maximum model length of 8192.", "x"),
        vllm_error(400, "This model's maximum context length is 8192 tokens. However, you requested 9000", "x"),
        Reply({"error": {"message": "the prompt exceeds the context length", "type": "api_error"}}, 400),
    ],
)  # fmt: skip
def test_a_picture_of_too_many_tokens_is_told_what_makes_it_fewer(fake: Fake, folder: Path, reply: Reply) -> None:
    fake.replies = [reply]
    [answer] = endpoint(fake).describe([asked(folder)])

    assert answer.why.startswith("it is more than the server reads at once; --side makes the picture smaller: ")
    assert len(fake.asked) == 1


def test_what_a_server_refuses_field_by_field_is_told_by_its_first(fake: Fake, folder: Path) -> None:
    wrong = {"type": "missing", "loc": ["body", "messages"], "msg": "Field required", "input": {"model": "seeing"}}
    fake.replies = [Reply({"detail": [wrong, wrong]}, 422)]
    [answer] = endpoint(fake).describe([asked(folder)])
    assert answer.why == "the server says 422: Field required"


def test_one_picture_that_the_server_cannot_take_does_not_stop_the_others(fake: Fake, folder: Path) -> None:
    too_long = llama_error(400, "the request exceeds the available context size", "exceed_context_size_error")
    fake.replies = [too_long, too_long, Reply(completion("a boat")), too_long, too_long, Reply(completion("a boat"))]
    work = Captioning(folder, endpoint(fake))
    list(work)

    assert work.result.written == ("2.png", "5.png")
    assert [name for name, _ in work.result.failed] == ["0.png", "1.png", "3.png", "4.png"]


def test_what_was_said_before_the_server_was_gone_is_kept_and_the_same_goes_on(fake: Fake, folder: Path) -> None:
    (folder / "1.txt").write_text("my own words")
    fake.replies = [Reply(completion("a boat")), Reply(completion("a tree")), Reply({"detail": "Not Found"}, 404)]
    work = Captioning(folder, endpoint(fake))
    with pytest.raises(ModelError):
        list(work)
    assert work.result.written == ("0.png", "2.png") and (folder / "2.txt").read_text() == "a tree\n"

    fake.replies, fake.seen = [Reply(completion("a hill"))], []
    on = Captioning(folder, endpoint(fake))
    list(on)

    assert on.result.written == ("0.png", "2.png", "3.png", "4.png", "5.png") and len(fake.asked) == 3
    assert (folder / "0.txt").read_text() == "a boat\n" and (folder / "1.txt").read_text() == "my own words"
    noted = authors.load(folder)
    assert noted.of("0.png", ("a boat",)) == "endpoint" and noted.settings("5.png")["model"] == "seeing"
    journal.undo(folder)
    assert sorted(path.name for path in folder.glob("*.txt")) == ["1.txt"]


def test_several_pictures_at_once_keep_their_places(fake: Fake, folder: Path) -> None:
    def slow_first(one: Seen) -> Reply:
        picture = one.body["messages"][0]["content"][1]["image_url"]["url"]
        first = picture == data_uri(folder / "0.png", 1024)
        return Reply(completion("the first" if first else "another"), seconds=0.2 if first else 0)

    fake.replies = [slow_first]
    answers = endpoint(fake, batch=4).describe([asked(folder, number) for number in range(4)])

    assert [answer.captions[0] for answer in answers] == ["the first", "another", "another", "another"]


def test_a_broken_picture_is_named_and_not_sent(fake: Fake, folder: Path) -> None:
    (folder / "0.png").write_bytes(b"no picture")
    answers = endpoint(fake).describe([asked(folder), asked(folder, 1)])

    assert answers[0].why and answers[1].captions and len(fake.asked) == 1


def test_openais_other_name_for_the_number_of_tokens_is_learnt(fake: Fake, folder: Path) -> None:
    what = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    fake.replies = [vllm_error(400, what, "invalid_request_error"), Reply(completion("a boat"))]
    made = endpoint(fake)

    assert [one.captions for one in made.describe([asked(folder), asked(folder, 1)])] == [("a boat",)] * 2
    assert ["max_tokens" in seen.body for seen in fake.asked] == [True, False, False]
    assert fake.asked[2].body["max_completion_tokens"] == 300


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
        ("https://a.example/api/v1/chat/completions", "https://a.example/api/v1"),
        (" http://[::1]:1234/v1 ", "http://[::1]:1234/v1"),
    ],
)
def test_addresses_as_they_are_given(given: str, wanted: str) -> None:
    assert address(given) == wanted


@pytest.mark.parametrize(
    "wrong", ["localhost:8080", "file:///etc/passwd", "http://", "http://a b/", "http://a:99999/", "http://x\ny/", ""]
)
def test_what_is_no_address_is_one_sentence(wrong: str) -> None:
    with pytest.raises(ModelError, match="is not an address"):
        address(wrong)


def test_keys_in_addresses_are_refused_and_not_repeated() -> None:
    for wrong in (f"https://me:{KEY}@a.example/v1", f"https://a.example/v1?key={KEY}"):
        with pytest.raises(ModelError, match="does not belong into an address") as caught:
            address(wrong)
        assert KEY not in str(caught.value)


def test_only_this_machine_is_local_and_offline_asks_no_other(home: Path) -> None:
    places = (
        "http://localhost:1/v1",
        "http://127.0.0.1/v1",
        "http://[::1]/v1",
        "http://192.168.0.2/v1",
        "https://a.example/v1",
    )
    assert [Server(place).local for place in places] == [True, True, True, False, False]
    (home / "config.toml").write_text("offline = true\n")
    refuse_offline(Server(places[0]))
    with pytest.raises(ModelError, match="nothing goes out"):
        refuse_offline(Server(places[3]))


def test_what_stays_on_this_machine_passes_no_proxy(fake: Fake, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert endpoint(fake).describe([asked(folder)])[0].captions
