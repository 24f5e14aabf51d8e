# The version in full: what is built tomorrow is what was tested today.
FROM node:22.21.1-bookworm-slim AS build
# true: with the package that runs embedding models in ONNX format (EMBEDDING_ONNX_PATH), which takes 470 MB.
ARG WITH_ONNX=false
WORKDIR /app
# Git hooks have no place in an image.
ENV HUSKY=0
COPY package.json package-lock.json .npmrc ./
# What npm calls after an install; without the sources it leaves the build to the step below.
COPY scripts/build.mjs scripts/prepare.mjs scripts/
# `install`, not `ci`: npm 11 refuses a lock that lacks optional binaries of platforms other than the one that
# wrote it; `install` accepts it and takes the same versions from it.
RUN npm install
COPY nest-cli.json tsconfig.json tsconfig.build.json ./
COPY migrations migrations
COPY src src
RUN npm run build && npm prune --omit=dev \
  && if [ "$WITH_ONNX" = true ]; then npm install --no-save --ignore-scripts --omit=dev @huggingface/transformers@4.3.1; fi

FROM node:22.21.1-bookworm-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000 DATA_DIR=/data
WORKDIR /app
# A new volume takes over the owner of the folder that it is mounted on.
RUN install -d -o node -g node /data
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json ./
COPY casbin casbin
# In numbers: what must not run as root can check it.
USER 1000:1000
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.PORT + '/api/v1/health/live').then(response => process.exit(response.ok ? 0 : 1), () => process.exit(1))"]
# Exec form: Node is process 1 itself, so SIGTERM reaches its shutdown hooks.
CMD ["node", "dist/src/main.js"]
