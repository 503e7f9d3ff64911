"""`rft certify`: sign what a run made."""

from __future__ import annotations

from rft.commands.actions import run_on_folder
from rft.config.certificates import CertifyConfig
from rft.wording import plural

USAGE = """\
usage: rft certify <run> key=key.pem
       rft certify <run> --sigstore

Write certificate.json beside the adapter: hashes of everything that the run read and wrote, its results, and a
signature. rft verify checks it. Make the keys once, and give key.pub.pem away:

  openssl genpkey -algorithm ed25519 -out key.pem
  openssl pkey -in key.pem -pubout -out key.pub.pem

--sigstore signs with your identity instead and writes certificate.sigstore.json. It needs the network, and a public log
keeps your name for ever.

{keys}
"""


def certify(words: list[str]) -> int:
    """Sign, and print what was signed; return the exit code, 0."""
    return run_on_folder("certify", words, CertifyConfig, _certify, USAGE)


def _certify(config: CertifyConfig) -> int:
    from rft.api.certify import certify as certify_run

    certified = certify_run(config.run, config.key, sigstore=config.sigstore)
    statement = certified.statement
    print(f"{certified.file}: signed by {certified.signer}")
    print(f"  {plural(len(statement.subject), 'file')} of the result, {plural(len(statement.materials), 'other file')}")
    print(f"  computed again before the signature: {', '.join(statement.checked)}")
    return 0
