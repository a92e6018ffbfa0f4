"""The calls about batches."""

from __future__ import annotations

from starlette.responses import Response

from batchkit.emulator import api, filters
from batchkit.emulator.api import Refusal
from batchkit.emulator.calls import Asked, json_of, listing
from batchkit.emulator.disturb import answer
from batchkit.emulator.service import Service


class BatchCalls:
    """Create, list, get, cancel."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create_batch(self, call: Asked) -> Response:
        body = await json_of(call.request)
        document, headers = self._service.create(body, call.struck, blob_mode=call.api.newest)
        return answer(document, call.api.created, headers if call.api.quota_headers else None)

    async def list_batches(self, call: Asked) -> Response:
        query, keep, oldest_first, more = call.request.query_params, None, False, False
        if call.api.filters:
            try:
                keep = filters.predicate(query["$filter"]) if query.get("$filter") else None
                oldest_first = bool(query.get("$orderby")) and not filters.descending(query["$orderby"])
            except ValueError as error:
                raise Refusal(400, "invalidPayload", str(error)) from None
        cursor = {} if "endless_list" in call.struck else query

        def cut(ids: list[str]) -> list[str]:
            nonlocal more
            wanted, more = api.page(ids, cursor, default=20, most=100)
            return wanted

        found = await self._service.listed(cut, keep, oldest_first=oldest_first)
        return answer(listing(found, more or "endless_list" in call.struck, call.struck))

    async def get_batch(self, call: Asked) -> Response:
        return answer(await self._service.get(call.id))

    async def cancel(self, call: Asked) -> Response:
        return answer(await self._service.cancel(call.id))
