// Compile what the page loads: node compile_site.mjs FOLDER, the last step of `scripts/build_site.py`.
//
// The page's Python is started and asked what people ask. Whatever was imported then is replaced by its bytecode in
// the two archives, which halves the time of a start; the rest stays source, which is smaller.

import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const folder = `${resolve(process.argv[2])}/`;
const base = pathToFileURL(folder).href;
const read = async (name) => new Uint8Array(await readFile(folder + name));
const { startPlanner } = await import(`${base}planner.js`);
const { ask, python } = await startPlanner(base, read, folder);

const machine = '{"schema_version": 1, "os": "linux", "arch": "x86_64", "libc": {"family": "glibc", "version": "2.39"}}';
const words = ["--offline", "--machine", "-", "--target-gpu", "sm_90", "--target-driver", "580", "--python-version", "3.12"];
ask("facts");
ask("read", machine, ["arch=x86_64", "libc=2.39"]);
ask("run", ["plan", "--json", ...words, "torch", "torchvision"], machine);
ask("run", ["plan", "--json", "--explain", "cpu", ...words, "torch", "vllm"], machine);
for (const format of ["pip", "uv", "dockerfile"]) ask("run", ["export", "--format", format, ...words, "torch"], machine);
ask("run", ["doctor", "--json", "--explain", "-"], "CUDA error: no kernel image is available");

for (const name of ["packages.zip", "pyodide/python_stdlib.zip"]) {
  python.FS.writeFile("/in.zip", await read(name));
  python.runPython(`
import sys, zipfile
from importlib._bootstrap_external import _code_to_hash_pyc

loaded = {module.replace(".", "/") + end for module in sys.modules for end in (".py", "/__init__.py")}
with zipfile.ZipFile("/in.zip") as source, zipfile.ZipFile("/out.zip", "w") as target:
    for info in source.infolist():
        content = source.read(info)
        if info.filename in loaded:
            code = compile(content, info.filename, "exec", dont_inherit=True)
            content = _code_to_hash_pyc(code, bytes(8), checked=False)
            info.filename += "c"
        target.writestr(info, content, zipfile.ZIP_DEFLATED, 9)
`);
  await writeFile(folder + name, python.FS.readFile("/out.zip"));
}
