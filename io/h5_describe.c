/* Attributes of any origin as text, for the provenance of files that other programs write. */
#define _POSIX_C_SOURCE 200809L
#include "io/h5.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

/* Values of an attribute read whole; one of the members is used, by kind. */
union values {
    int64_t *integers;
    double *reals;
    char **texts; /* each allocated by HDF5 */
};

enum kind { INTEGERS, REALS, TEXTS, OTHER };

static enum kind kind_of(hid_t type)
{
    switch (H5Tget_class(type)) {
    case H5T_INTEGER:
    case H5T_ENUM:
        return INTEGERS;
    case H5T_FLOAT:
        return REALS;
    case H5T_STRING:
        return TEXTS;
    default:
        return OTHER;
    }
}

/* text += piece */
static enum sq_status append(char **text, const char *piece)
{
    char *longer;
    SQ_TRY(sq_string_format(&longer, "%s%s", *text, piece));
    sq_free(*text);
    *text = longer;
    return SQ_OK;
}

static enum sq_status append_value(enum kind kind, union values values, int64_t i, char **text)
{
    char number[40];
    if (kind == TEXTS) return append(text, values.texts[i] ? values.texts[i] : "");
    if (kind == REALS) snprintf(number, sizeof number, "%.17g", values.reals[i]);
    if (kind == INTEGERS) snprintf(number, sizeof number, "%lld", (long long)values.integers[i]);
    return append(text, number);
}

/* Texts are read as variable strings of the attribute's own character set, whatever they are in the file. */
static hid_t memory_type_of(enum kind kind, hid_t type)
{
    if (kind == INTEGERS) return H5Tcopy(H5T_NATIVE_INT64);
    if (kind == REALS) return H5Tcopy(H5T_NATIVE_DOUBLE);
    hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, H5T_VARIABLE);
    H5Tset_cset(text, H5Tget_cset(type));
    return text;
}

/* HDF5 turns strings of fixed size into variable ones only by hand. */
static enum sq_status append_fixed_texts(hid_t attribute, hid_t type, int64_t count, char **text)
{
    size_t bytes = H5Tget_size(type);
    void *raw;
    char *piece;
    SQ_TRY(sq_alloc("the text of an attribute", count, bytes, &raw));
    enum sq_status status = SQ_OK;
    if (H5Aread(attribute, type, raw) < 0) count = 0;
    for (int64_t i = 0; i < count && status == SQ_OK; i++) {
        status = sq_string_format(&piece, "%s%.*s", i ? ", " : "", (int)bytes, (char *)raw + (size_t)i * bytes);
        if (status != SQ_OK) break;
        status = append(text, piece);
        sq_free(piece);
    }
    sq_free(raw);
    return status;
}

static enum sq_status append_values(hid_t attribute, hid_t type, hid_t space, char **text)
{
    enum kind kind = kind_of(type);
    int64_t count = H5Sget_simple_extent_npoints(space);
    if (kind == TEXTS && H5Tis_variable_str(type) <= 0) return append_fixed_texts(attribute, type, count, text);
    hid_t memory_type = memory_type_of(kind, type);
    void *raw = NULL;
    enum sq_status status = sq_alloc("the values of an attribute", count, 8, &raw);
    if (status != SQ_OK) goto out_close;
    if (H5Aread(attribute, memory_type, raw) < 0) goto out_free;
    for (int64_t i = 0; i < count && status == SQ_OK; i++) {
        if (i) status = append(text, ", ");
        if (status == SQ_OK) status = append_value(kind, (union values){raw}, i, text);
    }
    if (kind == TEXTS) H5Dvlen_reclaim(memory_type, space, H5P_DEFAULT, raw);
out_free:
    sq_free(raw);
out_close:
    H5Tclose(memory_type);
    return status;
}

static enum sq_status append_attribute(hid_t object, const char *name, char **text)
{
    enum sq_status status = SQ_OK;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return SQ_OK;
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    if (type >= 0 && space >= 0 && kind_of(type) != OTHER) {
        status = append(text, name);
        if (status == SQ_OK) status = append(text, ": ");
        if (status == SQ_OK) status = append_values(attribute, type, space, text);
        if (status == SQ_OK) status = append(text, "\n");
    }
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return status;
}

struct walk {
    char *text;
    enum sq_status status;
};

static herr_t visit(hid_t object, const char *name, const H5A_info_t *info, void *data)
{
    struct walk *walk = data;
    (void)info;
    walk->status = append_attribute(object, name, &walk->text);
    return walk->status == SQ_OK ? 0 : 1;
}

enum sq_status sq_h5_attributes_text(hid_t object, char **text_p)
{
    struct walk walk = {NULL, SQ_OK};
    SQ_TRY(sq_string_copy("", &walk.text));
    H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit, &walk);
    if (walk.status != SQ_OK) {
        sq_free(walk.text);
        return walk.status;
    }
    *text_p = walk.text;
    return SQ_OK;
}
