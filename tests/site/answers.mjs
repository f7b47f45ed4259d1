// The page's planner in Node: a line of JSON [function, ...values] in, a line of JSON out, until stdin ends.
//
//     node answers.mjs FOLDER

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const folder = `${resolve(process.argv[2])}/`;
const base = pathToFileURL(folder).href;
const { startPlanner } = await import(`${base}planner.js`);
const { ask } = await startPlanner(base, async (name) => new Uint8Array(await readFile(folder + name)), folder);
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...values] = JSON.parse(line);
  const start = performance.now();
  const answer = ask(name, ...values);
  process.stdout.write(`${JSON.stringify({ answer, ms: performance.now() - start })}\n`);
}
