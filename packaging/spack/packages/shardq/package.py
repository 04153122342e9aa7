from spack.package import *


class Shardq(CMakePackage, CudaPackage):
    """Quantizes large language models with GPTQ on many processors at once."""

    version("0.1.0")

    depends_on("c", type="build")
    depends_on("cxx", type="build", when="+cuda")
    depends_on("cmake@3.25:", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi@3:")
    depends_on("hdf5+mpi@1.10:")
    depends_on("onednn@2.6:2 cpu_runtime=omp")
    depends_on("openblas threads=openmp")
    depends_on("libyaml")
    depends_on("pcre2")
    depends_on("jansson")
    depends_on("xxhash")
    with when("+cuda"):
        depends_on("cuda@12:")
        conflicts("cuda_arch=none", msg="say for which devices: cuda_arch=90, for example")
        for arch in CudaPackage.cuda_arch_values:
            depends_on(f"nccl cuda_arch={arch}", when=f"cuda_arch={arch}")

    def cmake_args(self):
        args = [
            self.define("SHARDQ_TESTS", False),
            self.define("SHARDQ_GPU", "ON" if self.spec.satisfies("+cuda") else "OFF"),
        ]
        if self.spec.satisfies("+cuda"):
            args.append(self.define("SHARDQ_CUDA_ARCHITECTURES", self.spec.variants["cuda_arch"].value))
        return args
