# The two commands in a container, from a checkout:
#   docker build -t vidlib . && docker run --shm-size 2g vidlib          # make demo; with a GPU add --gpus all
#   docker run --shm-size 2g vidlib make test
FROM debian:trixie-slim AS base
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates git make python3 python3-venv
RUN useradd --create-home --uid 1000 vidlib
USER vidlib

FROM base
RUN mkdir /home/vidlib/suite
WORKDIR /home/vidlib/suite
COPY --chown=vidlib . .
RUN make setup
CMD ["make", "demo"]
