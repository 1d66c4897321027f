"""Workers: the processes that run trials and train candidates, here or on other machines."""
