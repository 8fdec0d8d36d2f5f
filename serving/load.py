"""Load over HTTP against vLLM's stock Qwen2.5-VL with the same weights, or a soak with requests that are cancelled.

    python -m serving.load [--layers 4] [--rounds 5]      1, 8 and 32 requests with pictures at once, servers in turns
    python -m serving.load --soak 2000      a server of this repo's checkpoint, of whose requests a third is cancelled

Printed are stock's seconds to the first token and between later ones and its tokens per second, and of each other
server the median and the quartiles of the ratio to stock of the same round; of a soak, the server's memory and how
many places of the table of deltas are free.
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m serving.load", file=sys.stderr)
    sys.exit(2)

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from .benchmark import ARMS, make_checkpoints, noise
from .tests.http_tools import ROOT, messages, serve

AT_ONCE = (1, 8, 32)
NEW_TOKENS = 24
OPTIONS = "--dtype bfloat16 --enforce-eager --max-model-len 1024 --max-num-seqs 32 --no-enable-prefix-caching"
MEMORY = ("--gpu-memory-utilization", "0.1", "--kv-cache-memory-bytes", 1 << 29, "--mm-processor-cache-gb", 0)


class CountsPlaces:
    """Extension of vLLM's worker, by which the server tells how many places of the table of deltas are free."""

    def free_places(self):
        return len(self.model_runner.model.language_model.model.geometry_embeddings.deltas._free)


def start(directory, *more):
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", directory]
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_SERVER_DEV_MODE": "1"}
    options = (*OPTIONS.split(), *MEMORY, "--served-model-name", "model", *more)
    return serve(*command, *options, cwd=ROOT, env=environment)


async def ask(client, picture, tokens, stop_after=None):
    """Seconds to each piece of an answer; the request is cancelled behind the given number of pieces."""
    begin, seconds = time.perf_counter(), []
    stream = await client.chat.completions.create(
        model="model", messages=messages(picture), max_tokens=tokens, stream=True, extra_body={"ignore_eos": True}
    )
    async with stream:
        async for _ in stream:
            seconds.append(time.perf_counter() - begin)
            if len(seconds) == stop_after:
                break
    return seconds


async def measure(client, count, seed):
    """Medians of one load: seconds to the first token and between later ones, and tokens per second in all."""
    begin = time.perf_counter()
    answers = await asyncio.gather(*(ask(client, picture, NEW_TOKENS) for picture in noise(count, 112, seed)))
    first = statistics.median(answer[0] for answer in answers)
    later = statistics.median((answer[-1] - answer[0]) / (NEW_TOKENS - 1) for answer in answers)
    return {"first": first, "later": later, "tokens/s": count * NEW_TOKENS / (time.perf_counter() - begin)}


async def compare(urls, rounds):
    from openai import AsyncOpenAI

    clients = {name: AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=None) for name, url in urls.items()}
    measured = {}
    for round_number in range(-1, rounds):  # round -1 warms up
        for count in AT_ONCE:
            for name in list(clients)[:: 1 if round_number % 2 else -1]:
                result = await measure(clients[name], count, 1000 * (round_number + 1) + count)
                for what, value in result.items() if round_number >= 0 else ():
                    measured.setdefault((f"{what}, {count} at once", name), []).append(value)
    for what in dict.fromkeys(what for what, _ in measured):
        stock = measured[what, "stock"]
        print(f"{what}: stock {statistics.median(stock):.3g}")
        for name in list(urls)[1:]:
            ratios = [own / other for own, other in zip(measured[what, name], stock)]
            low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            print(f"  {name}: {middle:.3f} ({low:.3f} to {high:.3f})")


async def soak(url, requests):
    """Thirty-two requests at once until all are done; a third is cancelled, before or behind its first tokens."""
    import httpx
    import psutil
    from openai import AsyncOpenAI

    client, chance = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=None), random.Random(0)
    [server] = psutil.Process().children()
    cancelled, waiting = 0, iter(range(requests))

    async def report(done):
        await ask(client, next(noise(1, 56, 0)), 2)  # what finished is gone with the next step
        answer = httpx.post(f"{url}/collective_rpc", json={"method": "free_places"}, timeout=None).json()
        memory = sum(process.memory_info().rss for process in [server, *server.children(recursive=True)])
        print(f"{done} requests, {cancelled} cancelled: {answer['results'][0]} places free, {memory / 2**20:.0f} MiB")

    async def work():
        nonlocal cancelled
        for number in waiting:
            picture = next(noise(1, (56 + 28 * (number % 5), 56 + 28 * (number // 5 % 5)), number))
            if chance.random() > 1 / 3:
                await ask(client, picture, NEW_TOKENS)
                continue
            cancelled += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ask(client, picture, NEW_TOKENS, chance.randint(1, 8)), chance.uniform(0.1, 9))

    await report(0)
    for part in range(1, 5):
        end = requests * part // 4
        waiting = iter(range(requests * (part - 1) // 4, end))
        await asyncio.gather(*(work() for _ in range(32)))
        await report(end)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4, help="layers of the text model (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each with every server in turn (default: 5)")
    parser.add_argument("--soak", type=int, help="send that many requests to one server instead")
    arguments = parser.parse_args()
    if arguments.soak:
        with start(ROOT, "--worker-extension-cls", "serving.load.CountsPlaces") as url:
            asyncio.run(soak(url, arguments.soak))
        return
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as servers:
        made = make_checkpoints(Path(directory), arguments.layers)
        urls = {name: servers.enter_context(start(made[block])) for name, block in ARMS.items()}
        asyncio.run(compare(urls, arguments.rounds))


if __name__ == "__main__":
    main()
