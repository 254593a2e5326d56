# One image for every role: `referee worker --gpus 0`, `referee worker --cpu`, `referee db upgrade`.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 referee
WORKDIR /opt/referee
COPY constraints.txt pyproject.toml README.md ./
COPY cli.py settings.py errors.py subprocesses.py ./
COPY papers papers
COPY models models
COPY worker worker
COPY judge judge
COPY trainer trainer
COPY db db
COPY migrations migrations
COPY configs configs
COPY adapters adapters
COPY examples examples
RUN pip install --no-cache-dir "$(sed -n '/^torch==/p' constraints.txt)" \
 && pip install --no-cache-dir -c constraints.txt -e .

# Fetched weights belong to the volume too.
ENV REFEREE_HOME=/var/lib/referee HF_HOME=/var/lib/referee/hub HF_HUB_DISABLE_TELEMETRY=1
RUN install -d -o referee -g referee /var/lib/referee
USER referee
VOLUME /var/lib/referee
ENTRYPOINT ["referee"]
CMD ["--help"]
