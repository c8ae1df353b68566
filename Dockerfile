# docker build -t dequnmix .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" dequnmix report scene.hdr --endmembers 5 -o report.html
FROM python:3.12-slim
# Wheels of rasterio and h5py bring their own GDAL and HDF5; libexpat is what they expect of the system.
RUN apt-get update && apt-get install -y --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir '.[all]' && rm -rf /build
# One writable place for compiled programs and the settings of matplotlib, whoever the user is.
ENV XDG_CACHE_HOME=/cache MPLCONFIGDIR=/cache/matplotlib
RUN mkdir -m 1777 /cache
WORKDIR /data
ENTRYPOINT ["dequnmix"]
CMD ["--help"]
