"""Whose account it is: the keys, what the exchange says of them, and the keys that an emulator hands out."""

from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec

from market_maker.config_sections import Secret
from market_maker.exchanges.endpoints import Endpoint
from market_maker.exchanges.envelope import data_reader
from market_maker.exchanges.rest import RestClient, request_failure
from market_maker.exchanges.signing import OrderSigner
from market_maker.exchanges.socket import USER_AGENT
from market_maker.exchanges.wire import UNREADABLE, CorruptFrame
from market_maker.gateway import CredentialsRefused, OutcomeUnknown

_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of one sub-account: one names it to the API, the other signs its orders."""

    api_key: Secret
    stark_private_key: Secret


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """A sub-account as the exchange has it: public key with 0x, `vault` its position at the chain."""

    account_id: int
    public_key: str
    vault: int
    status: str


class _WireAccount(msgspec.Struct, rename="camel"):
    l2_key: str
    l2_vault: int
    account_id: int
    status: str = "ACTIVE"


class _EmulatorAccount(msgspec.Struct, rename="camel"):
    api_key: str
    stark_private_key: str


class _EmulatorAccounts(msgspec.Struct):
    accounts: list[_EmulatorAccount]


_read_account = data_reader(_WireAccount, "an account")
_read_emulator_accounts = msgspec.json.Decoder(_EmulatorAccounts, strict=False)


def decode_account_info(body: bytes) -> AccountInfo:
    """Sub-account that an API key belongs to.

    Example::

        {"status":"OK","data":{"accountId":7001,"accountIndex":3,"description":"…","l2Key":"0x12345",
         "l2Vault":"7001003","status":"ACTIVE"}}
    """
    wire = _read_account(body)
    try:
        public_key = hex(int(wire.l2_key, 16))
    except ValueError as error:
        msg = f"expected a hexadecimal l2Key, was {wire.l2_key!r}"
        raise CorruptFrame(msg) from error
    return AccountInfo(wire.account_id, public_key, wire.l2_vault, wire.status)


async def log_in(rest: RestClient, keys: Keys) -> tuple[AccountInfo, OrderSigner]:
    """Sub-account of the keys, and what signs its orders.

    Raises
    ------
    CredentialsRefused
        If the exchange does not know the API key, or the private key is not that of its sub-account.
    """
    where = f"{rest.endpoint.network} at {rest.endpoint.host}"
    try:
        info = decode_account_info(await rest.get("/user/account/info"))
    except CredentialsRefused as refusal:
        msg = f"{where} does not accept the API key ({refusal}): is it of this network, and still valid?"
        raise CredentialsRefused(msg, refusal.code) from refusal
    except CorruptFrame as error:
        msg = f"{where}: {error}"
        raise OutcomeUnknown(msg) from error
    signer = OrderSigner(keys.stark_private_key, info.vault, rest.endpoint.chain_id)
    if signer.public_key != info.public_key:
        msg = (
            f"{where}: expected the private key of sub-account {info.account_id} (public key "
            f"{info.public_key}), was that of {signer.public_key}: API key and private key must be of one"
            " sub-account"
        )
        raise CredentialsRefused(msg)
    return info, signer


async def emulator_keys(endpoint: Endpoint, account: int = 0) -> Keys:
    """Keys of one of the accounts of a running emulator, which hands them to whoever is on its machine.

    Raises
    ------
    Unreachable
        If nobody listens at the endpoint.
    CredentialsRefused
        If who listens hands out no such keys.
    """
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    headers = {"User-Agent": USER_AGENT}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.get(f"{endpoint.origin}/emulator/accounts") as response,
        ):
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise request_failure(endpoint, error) from error
    try:
        accounts = _read_emulator_accounts.decode(body).accounts
    except UNREADABLE:
        accounts = []
    if not 0 <= account < len(accounts):
        where = f"{endpoint.network} at {endpoint.host}"
        msg = f"{where}: expected keys of account {account}, was without: is mm emulator running there?"
        raise CredentialsRefused(msg)
    return Keys(Secret(accounts[account].api_key), Secret(accounts[account].stark_private_key))
