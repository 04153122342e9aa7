/* make_tokens OUT SAMPLES LENGTH VOCABULARY SEED [XXH3]: a token file of seeded random ids, for whole-program tests;
 * with the hash of a tokenizer that they are said to be made with. */
#include <hdf5.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* As h5py writes it. */
static int write_tokenizer(hid_t data, const char *xxh3)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, H5T_VARIABLE);
    hid_t attribute = H5Acreate2(data, "tokenizer_xxh3", type, space, H5P_DEFAULT, H5P_DEFAULT);
    int failed = H5Awrite(attribute, type, &xxh3) < 0;
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
    return failed;
}

/* xxh3: NULL for none */
static int write_tokens(const char *path, const int32_t *ids, hsize_t samples, hsize_t length, const char *xxh3)
{
    const hsize_t shape[2] = {samples, length};
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(2, shape, NULL);
    hid_t data = H5Dcreate2(file, "tokens", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    int failed = H5Dwrite(data, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids) < 0;
    if (xxh3) failed |= write_tokenizer(data, xxh3);
    H5Dclose(data);
    H5Sclose(space);
    return H5Fclose(file) < 0 || failed;
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: make_tokens OUT SAMPLES LENGTH VOCABULARY SEED [XXH3]\n");
        return 2;
    }
    long samples = atol(argv[2]), length = atol(argv[3]), vocabulary = atol(argv[4]);
    uint64_t random = strtoull(argv[5], NULL, 10) * 2 + 1;
    int32_t *ids = malloc((size_t)(samples * length) * sizeof *ids);
    if (!ids) return 1;
    for (long i = 0; i < samples * length; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
        ids[i] = (int32_t)((random >> 33) % (uint64_t)vocabulary);
    }
    int failed = write_tokens(argv[1], ids, (hsize_t)samples, (hsize_t)length, argc == 7 ? argv[6] : NULL);
    free(ids);
    return failed;
}
