# What is installed, and a Debian package of it: cpack -G DEB, in the build folder.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON) # tests and benchmarks need not be built for it
install(TARGETS shardq)
install(PROGRAMS tools/tokenize.py DESTINATION share/shardq)
install(DIRECTORY slurm configs DESTINATION share/shardq USE_SOURCE_PERMISSIONS)
install(FILES README.md DESTINATION share/doc/shardq)
install(FILES LICENSE DESTINATION share/doc/shardq RENAME copyright)

set(CPACK_PACKAGE_NAME shardq)
set(CPACK_PACKAGE_VENDOR shardq)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "quantizes large language models with GPTQ on many processors")
set(CPACK_PACKAGE_CONTACT "the shardq authors <root@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON) # the libraries, from the program itself
set(CPACK_DEBIAN_PACKAGE_DEPENDS openmpi-bin)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "python3-h5py, python3-numpy, python3-xxhash, slurm-client") # and `tokenizers` from PyPI, for tokenize
include(CPack)
