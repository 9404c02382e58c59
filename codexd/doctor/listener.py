"""The TCP listener: its tokens, and whether its address can be had."""

from __future__ import annotations

import shlex

from codexd.address import Address, parse_address
from codexd.api.tcp import bind, check_tokens, resolve, token_files
from codexd.doctor.finding import Finding, failed, ok
from codexd.doctor.scene import Scene
from codexd.platform.files import explain


def listener(scene: Scene) -> Finding:
    """Whether its tokens let anybody in, and before a start whether it can be where it is told."""
    policy = scene.config.policy
    if not policy.hub_listen:
        return ok("No TCP listener is configured.")
    address = parse_address(policy.hub_listen)
    files = token_files(policy, scene.config.paths, scene.environ)
    try:
        check_tokens(files)
    except OSError as error:
        shown = " ".join(shlex.quote(path) for path in (files.all, files.read) if path)
        return failed(explain(error), f"ls -l {shown}; or name another with --hub-token-file")
    if scene.process is None:
        return _try_to_have(address)
    tcp = (scene.hub or {}).get("tcp")
    url = tcp.get("url") if isinstance(tcp, dict) else None
    return ok(f"The listener is on {url}." if url else "The tokens of the listener can be used.")


def _try_to_have(address: Address) -> Finding:
    try:
        bind(address, resolve(address), None).close()
    except OSError as error:
        mend = f"ss -ltnp 'sport = :{address.port}'; or name another with --hub-listen"
        return failed(f"The hub cannot listen: {explain(error)}.", mend)
    return ok(f"The hub can listen on {address}.")
