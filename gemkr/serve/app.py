"""The HTTP application: routes and answers over `Service`. The one place that knows FastAPI."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from gemkr import __version__
from gemkr.errors import GemkrError
from gemkr.serve import messages, requests
from gemkr.serve.answers import GrowingAnswer, all_rankings, as_json
from gemkr.serve.asking import Asking
from gemkr.serve.described import PROBLEMS, REFUSALS, UPLOAD, says, streams
from gemkr.serve.faults import answer_error, answer_faults
from gemkr.serve.following import follow
from gemkr.serve.guard import Guard, allowed_hosts
from gemkr.serve.metrics import CONTENT_TYPE, Metrics
from gemkr.serve.picture_routes import PictureRoutes
from gemkr.serve.refusals import RefusedError
from gemkr.serve.service import Service
from gemkr.serve.shown import shown_document
from gemkr.serve.turns import Turn
from gemkr.types import Document

PAGE = Path(__file__).parent / "page"
KEY_VARIABLE = "GEMKR_API_KEY"
STOP_SECONDS = 30.0
WRITES = HTTPBearer(auto_error=False, description=f"the key that the service found in {KEY_VARIABLE}")


def _documents(given: requests.NewDocuments) -> list[Document]:
    return [Document(one.doc_id, one.text, one.title, one.image) for one in given.documents]


def create_app(service: Service, *, key: str | None = None) -> FastAPI:
    """The application over a loaded service; `key` is asked of those who write, who are refused where there is none."""
    routes = Routes(service, key)
    pictures = PictureRoutes(routes.asking)
    app = FastAPI(
        title="gemkr",
        version=__version__,
        summary="Passages that answer a question about a picture, with the clues that found them",
        lifespan=routes.lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.batcher = routes.batcher
    get, post = app.get, app.post
    post("/v1/retrieve", responses=PROBLEMS | says(messages.RankingMessage | messages.Rankings))(
        routes.retrieve
    )
    post("/v1/retrieve/stream", responses=PROBLEMS | streams())(routes.stream)
    get("/v1/retrievers", response_model=list[messages.RetrieverMessage])(routes.retrievers)
    get("/v1/index/next", responses=PROBLEMS | says(messages.Following))(routes.following)
    get("/v1/documents/{doc_id:path}", responses=PROBLEMS | says(messages.DocumentMessage))(routes.document)
    writes = [Depends(routes.require_key)]
    for method, act in ((post, routes.add), (app.put, routes.update), (app.delete, routes.delete)):
        answers = PROBLEMS | REFUSALS | says(messages.Written)
        method("/v1/documents", responses=answers, dependencies=writes)(act)
    post("/v1/pictures", responses=PROBLEMS | says(messages.PictureMessage), openapi_extra=UPLOAD)(
        pictures.picture
    )
    get("/v1/pictures", response_model=list[str])(pictures.pictures)
    get("/v1/pictures/{image_id:path}", responses=PROBLEMS | says(messages.PictureMessage))(pictures.boxes)
    get("/v1/images/{image_id:path}", responses=PROBLEMS, response_class=Response)(pictures.image)
    get("/health")(routes.health)
    get("/ready", responses={503: PROBLEMS[503]})(routes.ready)
    get("/metrics", response_class=Response)(routes.figures)
    get("/", include_in_schema=False)(lambda: FileResponse(PAGE / "index.html"))
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.add_exception_handler(RequestValidationError, answer_faults)
    for kind in (GemkrError, HTTPException):
        app.add_exception_handler(kind, answer_error)
    settings = service.settings
    app.add_middleware(
        Guard,
        hosts=allowed_hosts(settings.host, settings.hosts),
        most_bytes=settings.most_bytes,
        body_seconds=settings.body_seconds,
        observe=routes.metrics.request,
    )
    return app


class Routes:
    """The handlers of the other routes, and the queue behind them."""

    def __init__(self, service: Service, key: str | None) -> None:
        self.service, self.settings = service, service.settings
        self.metrics = Metrics()
        self.asking = Asking(service, self.metrics)
        self.batcher = self.asking.batcher
        self._key = None if key is None else hashlib.sha256(key.encode()).digest()
        most, seconds = self.settings.queue, self.settings.seconds
        self._writing = Turn("changes of the collection", most=most, seconds=seconds)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Questions are taken in from here on; at the end what was taken in is finished."""
        self.batcher.start()
        following = asyncio.create_task(follow(self.service))
        yield
        following.cancel()
        await asyncio.to_thread(self.batcher.close, STOP_SECONDS)

    async def retrieve(self, asked: Annotated[requests.Asked, Body()], request: Request) -> Response:
        """Passages for one question, or for several at once, best first."""
        questions = asked.queries if isinstance(asked, requests.Questions) else [asked]
        if len(questions) > self.settings.most_queries:
            raise RefusedError(
                422,
                f"there are {len(questions)} queries, the limit is {self.settings.most_queries}; send them in parts",
            )
        with ExitStack() as stack:
            jobs = [await self.asking.job(question, stack, request) for question in questions]
            self.batcher.submit(jobs)
            rankings = await all_rankings(jobs, request)

        def answer() -> Response:
            shown = list(map(self.asking.shown, rankings, jobs, questions))
            return as_json({"rankings": shown} if isinstance(asked, requests.Questions) else shown[0])

        return await asyncio.to_thread(answer)

    async def stream(self, question: requests.Question, request: Request) -> Response:
        """The same for one question, as server-sent events: `clues` after each token, then `ranking`, or `problem`."""
        with ExitStack() as opened:
            job = await self.asking.job(question, opened, request)
            answer = GrowingAnswer(job, lambda ranking: self.asking.shown(ranking, job, question))
            self.batcher.submit([job])
            return answer.response(request, opened.pop_all())

    async def retrievers(self) -> list[dict[str, Any]]:
        """The retrievers, the default first."""
        return self.service.describe()

    def following(
        self,
        prefix: Annotated[str, Query(description="what the clue begins with", max_length=500)] = "",
        tokens: Annotated[
            str | None,
            Query(
                description="its tokens instead, as 12,7,99",
                max_length=1000,
                pattern=r"^(\d{1,9}(,\d{1,9})*)?$",
            ),
        ] = None,
        starting: Annotated[str, Query(description="list only what begins so", max_length=100)] = "",
        retriever: Annotated[str | None, Query(max_length=200)] = None,
        most: Annotated[int, Query(ge=1, le=200)] = 40,
    ) -> Response:
        """What the corpus lets follow a text, with counts and the documents that would be left."""
        numbers = None if tokens is None else [int(token) for token in tokens.split(",") if token]
        return as_json(self.service.following(retriever, numbers, prefix, starting, most))

    def document(self, doc_id: str) -> Response:
        """One document."""
        return as_json(shown_document(self.service.edition.document(doc_id)))

    async def add(self, given: requests.NewDocuments) -> Response:
        """Add documents to the collection; found from the next question on. Needs the key."""
        return as_json(await self._writing.do(partial(self.service.add, _documents(given))))

    async def update(self, given: requests.NewDocuments) -> Response:
        """Put documents in place of those with their ids; found from the next question on. Needs the key."""
        return as_json(await self._writing.do(partial(self.service.update, _documents(given))))

    async def delete(self, doc_id: Annotated[list[str], Query(min_length=1, max_length=1000)]) -> Response:
        """Delete documents from the collection; not found from the next question on. Needs the key."""
        return as_json(await self._writing.do(partial(self.service.delete, doc_id)))

    async def health(self) -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    async def ready(self) -> dict[str, Any]:
        """Questions are answered; 503 while the service stops."""
        if not self.batcher.alive:
            raise RefusedError(503, "the service takes no questions: it is stopping, or its worker has died")
        return {
            "status": "ready",
            "retrievers": list(self.service.names),
            "waiting": self.batcher.waiting,
            "writable": self.service.writable,
        }

    def figures(self) -> Response:
        """Figures for Prometheus."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def require_key(
        self, given: Annotated[HTTPAuthorizationCredentials | None, Depends(WRITES)]
    ) -> None:
        """RefusedError unless the request has the key; compared in constant time."""
        if self._key is None:
            raise RefusedError(403, f"this service is read only; start it with a key in {KEY_VARIABLE}")
        found = hashlib.sha256((given.credentials if given else "").encode()).digest()
        if not hmac.compare_digest(found, self._key):
            raise RefusedError(
                401,
                "writing needs the service's key; send it as Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )
