from spack.package import *


class Shardq(CMakePackage):
    """Quantizes large language models with GPTQ on many processors at once."""

    version("0.1.0")

    variant("cuda", default=False, description="CUDA backend")

    depends_on("c", type="build")
    depends_on("cxx", type="build", when="+cuda")
    depends_on("cmake@3.25:", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi@3:")
    depends_on("hdf5+mpi@1.10:")
    depends_on("onednn@2.6:")
    depends_on("openblas threads=openmp")
    depends_on("libyaml")
    depends_on("pcre2")
    depends_on("jansson")
    depends_on("xxhash")
    depends_on("cuda@12:", when="+cuda")
    depends_on("nccl", when="+cuda")

    def cmake_args(self):
        return [
            self.define("SHARDQ_TESTS", False),
            self.define("SHARDQ_GPU", "ON" if self.spec.satisfies("+cuda") else "OFF"),
        ]
