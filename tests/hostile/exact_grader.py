async def grade(completion, task):
    return float(completion == task.item.get("answer"))
