"""The XLA FFI headers that come with jaxlib."""

def _jaxlib_headers_impl(repository_ctx):
    python = repository_ctx.os.environ.get("PYTHON") or repository_ctx.which("python3")
    result = repository_ctx.execute([
        python,
        "-c",
        "import importlib.util, os; " +
        "print(os.path.dirname(importlib.util.find_spec('jaxlib').origin))",
    ])
    if result.return_code:
        fail("%s has no jaxlib: set PYTHON to one that has. %s" % (python, result.stderr))
    repository_ctx.symlink(result.stdout.strip() + "/include/xla", "xla")
    repository_ctx.file("BUILD", """
cc_library(
    name = "ffi_api",
    hdrs = glob(["xla/ffi/api/*.h"]),
    includes = ["."],
    visibility = ["//visibility:public"],
)
""")

jaxlib_headers = repository_rule(
    implementation = _jaxlib_headers_impl,
    environ = ["PATH", "PYTHON"],
    local = True,
)
