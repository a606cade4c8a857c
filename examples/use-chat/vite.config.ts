import { defineConfig } from "vite";

const parley = process.env.PARLEY_URL ?? "http://localhost:7071";
const proxy = { "/api": { target: parley, changeOrigin: true } };

export default defineConfig({ server: { proxy }, preview: { proxy } });
