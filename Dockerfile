# One image for every role: `referee worker --gpus 0`, `referee worker --cpu`, `referee db upgrade`.
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.12-slim
# Triton compiles a launcher for each of its kernels.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 referee
COPY constraints.txt /tmp/
# A separate layer, cached when only Referee changes.
RUN pip install --no-cache-dir "$(sed -n '/^torch==/p' /tmp/constraints.txt)"
COPY --from=build /dist /tmp/dist
RUN pip install --no-cache-dir -c /tmp/constraints.txt /tmp/dist/*.whl

# Downloaded weights are kept in the volume too.
ENV REFEREE_HOME=/var/lib/referee HF_HOME=/var/lib/referee/hub HF_HUB_DISABLE_TELEMETRY=1
RUN install -d -o referee -g referee /var/lib/referee
USER referee
WORKDIR /home/referee
VOLUME /var/lib/referee
ENTRYPOINT ["referee"]
CMD ["--help"]
