# The service on CPUs. The configuration and what it names are mounted; the key for writing comes from the environment:
#   docker build -t gemkr .
#   docker run -p 127.0.0.1:8000:8000 -v "$PWD/mine:/mine" -e GEMKR_API_KEY gemkr /mine/mine.yaml
FROM python:3.11-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN python -m venv /opt/gemkr && /opt/gemkr/bin/pip install --no-cache-dir ".[serve,yolo]"

FROM python:3.11-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 gemkr
COPY --from=build /opt/gemkr /opt/gemkr
ENV PATH=/opt/gemkr/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "from gemkr.client import Client; raise SystemExit(not Client().ready())"]
ENTRYPOINT ["gemkr", "serve", "--host", "0.0.0.0"]
