/* Evaluation against the same figures computed plainly from golden logits. */
#define _GNU_SOURCE /* mkdtemp */
#include "backends.h"
#include "ranks.h"

#include <math.h>

#include "model/evaluate.h"
#include "model/final.h"
#include "model_fixture.h"

static struct sq_tokens tokens_of(const struct golden *golden)
{
    return (struct sq_tokens){.n_samples = golden->n_samples, .length = golden->length, .ids = golden->ids};
}

static enum sq_status evaluate(const struct sq_comm *comm, const struct opened *o, const struct opened *reference,
                               const struct sq_tokens *tokens, int n_threads, enum sq_activations_place place,
                               struct sq_evaluation *evaluation)
{
    const struct sq_evaluate_options options = {.compute = SQ_F32, .place = place, .folder = ranks.folder.path};
    struct sq_backend *backend;
    if (backend_create(n_threads, &backend) != SQ_OK) abort();
    enum sq_status status =
        sq_evaluate(backend, comm, o->model, reference ? reference->model : NULL, tokens, &options, evaluation);
    backend->ops->destroy(backend);
    return status;
}

/* --- the plain way ----------------------------------------------------------------------------------------------- */

static int64_t argmax(const float *z, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (z[i] > z[best]) best = i;
    return best;
}

static double log_probability(const float *z, int64_t n, int64_t i)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += exp((double)z[k] - (double)z[i]);
    return -log(sum);
}

static double plain_nll(const struct golden *golden)
{
    double total = 0;
    int64_t count = 0;
    for (int64_t s = 0; s < golden->n_samples; s++)
        for (int64_t t = 0; t + 1 < golden->length; t++, count++) {
            const float *z = golden->logits + (s * golden->length + t) * golden->vocab;
            total -= log_probability(z, golden->vocab, golden->ids[s * golden->length + t + 1]);
        }
    return total / (double)count;
}

/* Mean KL(p || q) and agreement over the first length - 1 positions of each sample. */
static void plain_distance(const struct golden *p, const struct golden *q, double *kl, double *agreement)
{
    int64_t count = 0;
    *kl = *agreement = 0;
    for (int64_t s = 0; s < p->n_samples; s++)
        for (int64_t t = 0; t + 1 < p->length; t++, count++) {
            const float *zp = p->logits + (s * p->length + t) * p->vocab;
            const float *zq = q->logits + (s * p->length + t) * p->vocab;
            for (int64_t i = 0; i < p->vocab; i++) {
                double lp = log_probability(zp, p->vocab, i), lq = log_probability(zq, p->vocab, i);
                *kl += exp(lp) * (lp - lq);
            }
            *agreement += argmax(zp, p->vocab) == argmax(zq, p->vocab);
        }
    *kl /= (double)count;
    *agreement /= (double)count;
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

static void test_nll_and_perplexity(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "llama3", "mistral", "qwen2", "qwen3", "opt"};
    for (int i = 0; i < 6; i++) {
        struct opened o;
        struct sq_evaluation e = {0};
        open_model(names[i], &o);
        struct sq_tokens tokens = tokens_of(&o.golden);
        double expected = plain_nll(&o.golden);
        CHECK(evaluate(&ranks.comm, &o, NULL, &tokens, 2, SQ_ACTIVATIONS_NEAR, &e) == SQ_OK);
        /* a mean of values around 10 from logits that are right to 1e-6 */
        CHECK(fabs(e.nll - expected) <= 1e-5 * expected);
        CHECK(fabs(e.perplexity - exp(e.nll)) <= 1e-12 * e.perplexity);
        CHECK(e.n_predictions == o.golden.n_samples * (o.golden.length - 1));
        CHECK(e.kl == 0 && e.agreement == 0);
        close_model(&o);
    }
    ranks_end_test();
}

static void test_distance_to_itself_is_zero(void **state)
{
    (void)state;
    struct opened o;
    struct sq_evaluation e = {0};
    open_model("qwen3", &o);
    struct sq_tokens tokens = tokens_of(&o.golden);
    CHECK(evaluate(&ranks.comm, &o, &o, &tokens, 2, SQ_ACTIVATIONS_NEAR, &e) == SQ_OK);
    CHECK(fabs(e.kl) < 1e-6); /* a difference of logarithms of equal sums */
    CHECK(e.agreement == 1);
    close_model(&o);
    ranks_end_test();
}

/* Logits of a model for all of these tokens, on every rank by itself; released with free(). */
static float *logits_of(const struct sq_comm *self, const struct opened *o, const struct sq_tokens *tokens)
{
    struct sq_backend *backend;
    struct sq_final final;
    struct sq_forward_options options = {.compute = SQ_F32, .n_samples = tokens->n_samples, .length = tokens->length};
    float *logits = malloc((size_t)(tokens->n_samples * tokens->length * o->golden.vocab) * sizeof *logits);
    if (backend_create(1, &backend) != SQ_OK) abort();
    if (sq_final_make(backend, self, o->model, &options, tokens->ids, &final) != SQ_OK) abort();
    if (sq_final_logits(&final, self, logits) != SQ_OK) abort();
    sq_final_release(&final);
    backend->ops->destroy(backend);
    return logits;
}

/* Two models on the tokens of the first; also with activations in a file, or of a device on the host. */
static void test_distance_between_two_models(void **state)
{
    (void)state;
    struct sq_comm self;
    struct opened q, p;
    struct sq_evaluation e = {0}, spilled = {0};
    if (sq_comm_split(&ranks.comm, ranks.comm.rank, &self) != SQ_OK) abort();
    open_model("llama", &q);
    open_model("mistral", &p);
    struct sq_tokens tokens = tokens_of(&q.golden);
    struct golden reference = q.golden;
    reference.logits = logits_of(&self, &p, &tokens);
    double kl, agreement;
    plain_distance(&reference, &q.golden, &kl, &agreement);
    CHECK(evaluate(&ranks.comm, &q, &p, &tokens, 2, SQ_ACTIVATIONS_NEAR, &e) == SQ_OK);
    CHECK(kl > 0.1); /* otherwise the next line says little */
    CHECK(fabs(e.kl - kl) <= 1e-5 * kl);
    CHECK(fabs(e.agreement - agreement) < 1e-12);
    CHECK(fabs(e.nll - plain_nll(&q.golden)) <= 1e-5 * e.nll);
    CHECK(evaluate(&ranks.comm, &q, &p, &tokens, 2, sq_activations_away(backend_in_host_memory()), &spilled) == SQ_OK);
    CHECK(!memcmp(&e, &spilled, sizeof e));
    free(reference.logits);
    close_model(&p);
    close_model(&q);
    sq_comm_free(&self);
    ranks_end_test();
}

static void test_bits_do_not_depend_on_ranks_and_threads(void **state)
{
    (void)state;
    struct sq_comm self;
    struct opened q, p;
    struct sq_evaluation e = {0}, alone = {0}, one_thread = {0};
    if (sq_comm_split(&ranks.comm, ranks.comm.rank, &self) != SQ_OK) abort();
    open_model("smollm2", &q);
    open_model("llama3", &p);
    struct sq_tokens tokens = tokens_of(&q.golden);
    CHECK(evaluate(&ranks.comm, &q, &p, &tokens, 2, SQ_ACTIVATIONS_NEAR, &e) == SQ_OK);
    CHECK(evaluate(&self, &q, &p, &tokens, 2, SQ_ACTIVATIONS_NEAR, &alone) == SQ_OK);
    CHECK(evaluate(&ranks.comm, &q, &p, &tokens, 1, SQ_ACTIVATIONS_NEAR, &one_thread) == SQ_OK);
    CHECK(!memcmp(&e, &alone, sizeof e));
    CHECK(!memcmp(&e, &one_thread, sizeof e));
    close_model(&p);
    close_model(&q);
    sq_comm_free(&self);
    ranks_end_test();
}

/* One line for the whole job. */
static bool is_error_of_rank_0(const char *text, const char *const parts[4])
{
    return ranks.comm.rank == 0 ? capture_is_one_error(text, parts) : *text == '\0';
}

static void test_what_cannot_be_evaluated_is_refused(void **state)
{
    (void)state;
    struct opened q, p;
    struct sq_evaluation e = {.nll = -1};
    open_model("llama", &q);
    open_model("qwen2", &p); /* another vocabulary */
    struct sq_tokens tokens = tokens_of(&q.golden);
    capture_start(&ranks.capture);
    CHECK(evaluate(&ranks.comm, &q, &p, &tokens, 1, SQ_ACTIVATIONS_NEAR, &e) == SQ_ERR_INPUT);
    CHECK(is_error_of_rank_0(capture_stop(&ranks.capture), (const char *const[4]){"128", "160"}));
    tokens.length = 1;
    capture_start(&ranks.capture);
    CHECK(evaluate(&ranks.comm, &q, NULL, &tokens, 1, SQ_ACTIVATIONS_NEAR, &e) == SQ_ERR_INPUT);
    CHECK(is_error_of_rank_0(capture_stop(&ranks.capture), (const char *const[4]){"1 token"}));
    CHECK(e.nll == -1);
    close_model(&p);
    close_model(&q);
    ranks_end_test();
}

static int run(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nll_and_perplexity),
        cmocka_unit_test(test_distance_to_itself_is_zero),
        cmocka_unit_test(test_distance_between_two_models),
        cmocka_unit_test(test_bits_do_not_depend_on_ranks_and_threads),
        cmocka_unit_test(test_what_cannot_be_evaluated_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return ranks_main(&argc, &argv, run);
}
