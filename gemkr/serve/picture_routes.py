"""The handlers of the routes of pictures: given to the service, listed, looked up and shown. Knows no FastAPI."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gemkr.serve.answers import as_json
from gemkr.serve.asking import Asking
from gemkr.serve.pictures import PictureDesk
from gemkr.serve.refusals import RefusedError
from gemkr.serve.turns import Turn


class PictureRoutes:
    """Pictures over the desk of a service; those that are given are encoded in the turn of questions' pictures."""

    def __init__(self, asking: Asking) -> None:
        self.service, self.asking = asking.service, asking
        settings = asking.settings
        self._showing = Turn("pictures to show", most=settings.queue, seconds=settings.seconds)

    async def picture(self, request: Request) -> Response:
        """Give a picture (the bytes of its file are the body); the answer has its id and the boxes found in it."""
        data = await request.body()
        desk = self._desk()

        def describe() -> dict[str, Any]:
            with desk.given(data) as image_id:
                return desk.describe(image_id)

        return as_json(await self.asking.encoded(describe, request))

    def pictures(self) -> list[str]:
        """Ids of some pictures of the configuration's folder, to try the service with."""
        return [] if self.service.pictures is None else self.service.pictures.samples()

    async def boxes(self, image_id: str, request: Request) -> Response:
        """Size and boxes of a picture that was given, or is one of the folder's."""
        desk = self._desk()

        def describe() -> dict[str, Any]:
            with desk.known(image_id) as known:
                return desk.describe(known)

        return as_json(await self.asking.encoded(describe, request))

    async def image(self, image_id: str, request: Request) -> Response:
        """The picture itself, as JPEG of at most 1,280 pixels a side."""
        desk = self._desk()

        def jpeg() -> bytes:
            with desk.seen(image_id):
                return desk.jpeg(image_id)

        body = await self._showing.do(jpeg, gone=request.is_disconnected)
        return Response(body, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    def _desk(self) -> PictureDesk:
        if self.service.pictures is None:
            raise RefusedError(404, "no retriever of this service uses pictures")
        return self.service.pictures
