import { defineConfig } from "vitest/config";

export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  // The server's Content-Security-Policy forbids what is inline, so nothing is made inline.
  build: { assetsInlineLimit: 0, modulePreload: { polyfill: false }, target: "es2022", chunkSizeWarningLimit: 400 },
  server: { proxy: { "/api": "http://127.0.0.1:8081" } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
