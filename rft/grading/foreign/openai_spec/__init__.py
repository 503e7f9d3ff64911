"""OpenAI's grader JSON, run here: the whole of the reinforcement fine-tuning spec, and Azure's endpoint grader.

    grader = load_openai("grader.json")            # a grader of rft, for a run
    run({"grader": ..., "item": ..., "model_sample": ...})     # what POST /graders/run answers
    validate({"grader": ...})                                  # what POST /graders/validate answers

What goes wrong sets one of OpenAI's flags. OpenAI gives a reward of 0 for most of them; here only what is the model's
fault is graded at all, with the grader's minimum, and a grader's failure gives no reward:

    flag                          when                                                  status          value
    truncated_observation_error   cut by its length before it came to an answer         no answer       minimum
    sample_parse_error            not what response_format demands, or far too long     invalid output  minimum
    invalid_variable_error        sample.output_tools[...] without such a call          no answer       minimum
                                  sample.output_json... without such a value            invalid output  minimum
                                  item... without such a column; sample.output_audio    grader error    none
    other_error                   `like` with a reference that the completion emptied   no answer       minimum
                                  an empty reference; an endpoint's failure; a defect   grader error    none
    formula_parse_error           calculate_output has no finite value                  grader error    none
    python_grader_runtime_error   grade raised, or returned no finite number            grader error    none
    python_grader_server_error    no sandbox, or the program ended without a result     grader error    none
    model_grader_server_error     the judge is out of reach, retries included           grader error    none
    model_grader_refusal_error    the judge refused                                     grader error    none
    model_grader_parse_error      the judge's reply is no verdict                       grader error    none
    unresponsive_reward_error     a python grader or an endpoint missed its deadline    timeout         none

The minimum is the lower end of a score_model's range, else 0. A multi grader calculates with its graders' minimums; it
has a value when all of them have one, and then the status of the first that could not read the completion.
"""

from rft.grading.foreign.openai_spec.api import arun, run, validate
from rft.grading.foreign.openai_spec.faults import SpecError
from rft.grading.foreign.openai_spec.grader import OpenAIGrader, load_openai
from rft.grading.foreign.openai_spec.outcome import Services

__all__ = ["OpenAIGrader", "Services", "SpecError", "arun", "load_openai", "run", "validate"]
